"""Vectors by command and their neighbours, as rows and as words; what a user can get wrong."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.neighbours import neighbours
from jobs.schemas import NeighboursJob
from rnnlm.config import from_dict
from rnnlm.errors import ConfigError, DataError
from tests.corpora import save_tiny, sentences
from tests.integration.pipeline import part_bytes, refusal, run_well


def job_of(**given):
    return from_dict(NeighboursJob, {"cluster": {}, **given})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder with a checkpoint, a corpus and its vectors."""
    folder = tmp_path_factory.mktemp("vectors")
    save_tiny(folder / "model")
    texts = [None if row == 5 else text for row, text in enumerate(sentences(40) * 2)]
    pq.write_table(pa.table({"id": [f"d{row}" for row in range(80)], "text": texts}), folder / "corpus.parquet")
    said = run_well(
        "embed",
        f"checkpoint={folder / 'model'}",
        f"corpus.path={folder / 'corpus.parquet'}",
        "cluster=here",
        "pooling=mean",
        f"output={folder / 'vectors'}",
    )
    assert "embed: 80 rows (79 ok, 1 null, 0 with an error)" in said
    return folder


def test_each_text_is_nearest_to_the_same_text(made, tmp_path):
    arguments = [f"vectors={made / 'vectors/data'}", "id_column=id", "k=3", "cluster=here"]
    said = run_well("neighbours", *arguments, f"output={tmp_path / 'out'}")
    assert "neighbours: 79 vectors of 8 numbers; left out: 1 null" in said
    assert "neighbours: 80 rows (79 ok, 1 null, 0 with an error)" in said
    rows = pq.read_table(tmp_path / "out/data").to_pylist()
    for number, row in enumerate(rows):
        if number not in (5, 45):
            twin = next(one for one in row["neighbours"] if one["id"] == f"d{(number + 40) % 80}")
            assert twin["cosine"] == pytest.approx(1.0, abs=1e-6)
            assert row["neighbours"][0]["cosine"] == twin["cosine"]
    before = part_bytes(tmp_path / "out")
    assert "1 of 1 shards were done before" in run_well("neighbours", *arguments, f"output={tmp_path / 'out'}")
    assert "80 rows accounted for, shards computed again: 0" in run_well("verify", f"output={tmp_path / 'out'}")
    assert part_bytes(tmp_path / "out") == before


def test_words_are_printed_and_written(made, tmp_path):
    arguments = [f"checkpoint={made / 'model'}", "words=[cat,dog]", "k=2"]
    said = run_well("neighbours", *arguments, f"output={tmp_path / 'out'}")
    found = pq.read_table(tmp_path / "out/neighbours.parquet").to_pylist()
    lines = [
        f"{row['word']}: " + ", ".join(f"{one['word']} {one['cosine']:.3f}" for one in row["neighbours"])
        for row in found
    ]
    assert said.splitlines() == [*lines, f"output: {tmp_path / 'out'}/neighbours.parquet"]
    assert [row["word"] for row in found] == ["cat", "dog"]
    assert "it holds neighbours.parquet" in refusal(2, "neighbours", *arguments, f"output={tmp_path / 'out'}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"give vectors=\.\.\."),
        ({"vectors": "x"}, "name the output folder"),
        ({"checkpoint": "x"}, "checkpoint and words belong together"),
        ({"vectors": "x", "output": "y", "queries": "z", "include_self": True}, "include_self is about rows"),
        ({"checkpoint": "x", "words": ["a"], "id_column": "id"}, "queries, id_column and dry_run are about vectors"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        job_of(**given)


def test_vectors_and_queries_of_two_sizes_are_refused(made, tmp_path):
    pq.write_table(pa.table({"vector": pa.array([[1.0, 2.0]], pa.list_(pa.float32()))}), tmp_path / "q.parquet")
    job = job_of(vectors=f"{made}/vectors/data", queries=f"{tmp_path}/q.parquet", output=f"{tmp_path}/out")
    with pytest.raises(DataError, match=r"the queries have 2 numbers each, the vectors 8 at .*q\.parquet"):
        neighbours(job)
    assert not (tmp_path / "out").exists()
