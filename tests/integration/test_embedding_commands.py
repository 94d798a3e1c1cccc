"""Embeddings by command: written in every format, mapped, and asked for analogies."""

import pyarrow.parquet as pq
import pytest

from jobs.export_embeddings import export_embeddings
from jobs.map_embeddings import map_embeddings
from jobs.neighbours import neighbours
from jobs.schemas import ExportEmbeddingsJob, MapEmbeddingsJob, NeighboursJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.data.vectors import read_vectors
from rnnlm.errors import ConfigError, DataError, RefusedError
from rnnlm.vectors.words import WordEmbeddings
from tests.corpora import save_tiny
from tests.integration.pipeline import pipeline, run_well


@pytest.mark.parametrize(
    ("name", "layout"), [("v.txt", "word2vec"), ("v.bin", "word2vec"), ("v.safetensors", "safetensors")]
)
def test_a_file_starts_another_model_with_the_same_vectors(tmp_path, name, layout):
    embeddings = WordEmbeddings(save_tiny(tmp_path / "c"))
    job = {"checkpoint": str(tmp_path / "c"), "output": str(tmp_path / name), "format": layout}
    export_embeddings(from_dict(ExportEmbeddingsJob, job))
    found = read_vectors(str(tmp_path / name), 8, embeddings.tokens)
    assert found.keys() == set(embeddings.tokens.values())
    assert all((vector == embeddings.matrix[token]).all() for token, vector in found.items())
    with pytest.raises(RefusedError, match="it is there already"):
        export_embeddings(from_dict(ExportEmbeddingsJob, job))


def test_an_export_of_pieces_by_command_and_their_neighbours(tmp_path):
    made = pipeline()
    file = tmp_path / "pieces.parquet"
    said = run_well("export_embeddings", f"checkpoint={made.model}", f"output={file}", "format=parquet", "pieces=true")
    tokenizer = load_checkpoint(str(made.model)).tokenizer
    assert said == f"export_embeddings: {tokenizer.vocab_size} words, 16 numbers each\noutput: {file}\n"
    table = pq.read_table(file)
    assert table["word"].to_pylist() == [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
    job = {"cluster": {}, "vectors": str(file), "id_column": "word", "output": str(tmp_path / "near")}
    neighbours(from_dict(NeighboursJob, job))
    assert pq.read_table(tmp_path / "near/data").num_rows == tokenizer.vocab_size


def test_words_that_a_format_cannot_hold_are_left_out_and_counted(tmp_path, capsys):
    checkpoint = save_tiny(tmp_path / "c", tokenizer=CharsConfig().train(["a b\n"]))
    job = {"checkpoint": str(tmp_path / "c"), "output": str(tmp_path / "v.txt")}
    export_embeddings(from_dict(ExportEmbeddingsJob, job))
    said = capsys.readouterr()
    held = checkpoint.tokenizer.vocab_size - 2  # all but the blank and the line feed
    assert "left out 2 that are empty or hold white space" in said.err
    assert said.out.startswith(f"export_embeddings: {held} words, 8 numbers each")
    with pytest.raises(ConfigError, match=r"output: format=safetensors needs a name that ends in \.safetensors"):
        export_embeddings(from_dict(ExportEmbeddingsJob, {**job, "format": "safetensors"}))


def test_a_map(tmp_path, capsys):
    made = pipeline()
    job = {"checkpoint": str(made.model), "tokens": str(made.tokens), "output": str(tmp_path / "map"), "words": 10}
    map_embeddings(from_dict(MapEmbeddingsJob, job))
    assert capsys.readouterr().out.startswith("map_embeddings: ")
    assert (tmp_path / "map/map.html").exists()


def test_analogies_are_printed_and_written(tmp_path, capsys):
    save_tiny(tmp_path / "c")
    job = {"cluster": {}, "checkpoint": str(tmp_path / "c"), "analogies": [["cat", "dog", "mat"]], "k": 2}
    neighbours(from_dict(NeighboursJob, {**job, "words": ["cat"], "output": str(tmp_path / "out")}))
    (row,) = pq.read_table(tmp_path / "out/analogies.parquet").to_pylist()
    assert [row[name] for name in "abc"] == ["cat", "dog", "mat"]
    shown = ", ".join(f"{one['word']} {one['cosine']:.3f}" for one in row["neighbours"])
    assert f"cat : dog = mat: {shown}" in capsys.readouterr().out.splitlines()
    assert pq.read_table(tmp_path / "out/neighbours.parquet").num_rows == 1
    with pytest.raises(ConfigError, match="an analogy has three words"):
        from_dict(NeighboursJob, {**job, "analogies": [["cat", "dog"]]})
    with pytest.raises(DataError, match="analogies: 'zzz' is none"):
        neighbours(from_dict(NeighboursJob, {**job, "analogies": [["cat", "dog", "zzz"]]}))
