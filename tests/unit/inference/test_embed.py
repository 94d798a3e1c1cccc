"""Vectors of rows: those of the plain model, one row at a time, for every kind of model, pooling and layer."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.bulk.rows import RowGuard
from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.errors import ConfigError, DataError, RefusedError, TerminatedError
from rnnlm.inference import embed, packed, spelled
from rnnlm.inference.embed import Embedder, forward_size
from rnnlm.inference.embed_work import NO_VECTOR, EmbedWork
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.layers.reading_order import ReadingOrderConfig
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.storage import open_location
from rnnlm.tasks.classification import ClassificationConfig
from rnnlm.tasks.entities import EntitiesConfig
from rnnlm.tasks.tagging import TaggingConfig
from tests.corpora import save_tiny, save_tiny_translation, sentences, tiny_task, tiny_translation
from tests.unit.bulk.toy import parts

ROUNDING = 1e-5  # float32 products of another shape
POOLINGS = ["last", "mean", "max"]
LAYERS = [1, 2, -1, -2]
HALF = 4  # of a bidirectional layer
WORD_TASKS = {"tagging": TaggingConfig, "classification": ClassificationConfig, "entities": EntitiesConfig}
WORDS = ["Mary", "saw", "Zoë", "日本", ".", "x1"]
ROWS = [[WORDS[(place * place + length) % 6] for place in range(length)] for length in (3, 1, 7, 2, 7, 40)]
TEXTS = [*sentences(9), "", "the " * 60]


def save_words(folder, task, **fields):
    """A model of words with two bidirectional layers and random weights."""
    features = [
        WordEmbeddingConfig(size=6),
        RecurrentCharactersConfig(embedding_size=4, cell=LSTMConfig(hidden_size=3)),
    ]
    task = WORD_TASKS[task](**{"cell": LSTMConfig(hidden_size=2 * HALF), "num_layers": 2, "words": features, **fields})
    tokenizer = LabelsConfig().train_labelled([(WORDS[:4], ["A", "B", "A", "B"])])
    torch.manual_seed(3)
    model = task.build(tokenizer)
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    save_checkpoint(open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={})
    return load_checkpoint(str(folder))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    torch.manual_seed(7)
    return save_tiny(tmp_path_factory.mktemp("language") / "c", tiny_task("lstm", num_layers=2))


@pytest.fixture(scope="module")
def translation(tmp_path_factory):
    torch.manual_seed(7)
    return save_tiny_translation(tmp_path_factory.mktemp("pairs") / "c", tiny_translation(num_layers=2))


@pytest.fixture(scope="module", params=WORD_TASKS)
def of_words(request, tmp_path_factory):
    return save_words(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return save_words(tmp_path_factory.mktemp("tagger"), "tagging")


def path(checkpoint):
    return str(checkpoint.location.path)


# ----- the truth: one row alone, layer by layer, and pooling by hand


def through(layers, inputs, number):
    """Outputs T x H of layer `number` for one row's inputs T x D."""
    outputs, lengths = inputs[None], torch.tensor([len(inputs)])
    for layer in list(layers)[: number if number > 0 else len(list(layers)) + 1 + number]:
        outputs = layer.read(outputs, lengths)
    return outputs[0]


def pooled(outputs, pooling, half=None):
    if pooling == "mean":
        return outputs.mean(0)
    if pooling == "max":
        return outputs.max(0).values
    return outputs[-1] if half is None else torch.cat([outputs[-1, :half], outputs[0, half:]])


@torch.no_grad()
def of_text(checkpoint, text, pooling, layer):
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    tokens = torch.tensor([tokenizer.bos_id, *tokenizer.encode([text])[0].tolist()])
    return pooled(through(model.stack.layers, model.embedding(tokens), layer), pooling).numpy()


@torch.no_grad()
def of_source(checkpoint, text, pooling, layer):
    model, tokenizer = checkpoint.model, checkpoint.tokenizer.source
    tokens = torch.tensor([*tokenizer.encode([text])[0].tolist(), tokenizer.eos_id])
    return pooled(through(model.encoder.layers, model.source_embedding(tokens), layer), pooling, HALF).numpy()


@torch.no_grad()
def of_row(checkpoint, words, pooling, layer):
    model = checkpoint.model
    batch = LabelledReader(LabelledTable.from_rows([words], None, checkpoint.tokenizer)).read(np.array([0]))
    inputs = torch.cat([feature(batch) for feature in model.words], dim=2)[0]
    return pooled(through(model.encoder.layers, inputs, layer), pooling, HALF).numpy()


EVERY = pytest.mark.parametrize(("pooling", "layer"), list(itertools.product(POOLINGS, LAYERS)))


@EVERY
@pytest.mark.parametrize("positions", [768, 7])
def test_vectors_of_texts_are_those_of_the_plain_model(language_model, pooling, layer, positions, monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", positions)  # with 7, all texts but the shortest go through in chunks
    monkeypatch.setattr(packed, "BLOCK_ROWS", 4)
    shares = []
    embedder = Embedder(language_model, pooling=pooling, layer=layer)
    found = embedder.embed(TEXTS, report=shares.append)
    assert found.shape == (len(TEXTS), embedder.size)
    assert found.dtype == np.float32
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, of_text(language_model, text, pooling, layer), atol=ROUNDING)
    assert embedder.num_tokens.tolist() == [len(text.split()) + 1 for text in TEXTS]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@EVERY
def test_vectors_of_sources_are_those_of_the_plain_encoder(translation, pooling, layer, monkeypatch):
    monkeypatch.setattr(embed, "BATCH_TOKENS", 20)
    embedder = Embedder(translation, pooling=pooling, layer=layer)
    found = embedder.embed(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, of_source(translation, text, pooling, layer), atol=ROUNDING)
    assert embedder.num_padding > 0


@EVERY
def test_vectors_of_words_are_those_of_the_plain_encoder(of_words, pooling, layer, monkeypatch):
    monkeypatch.setattr(spelled, "BATCH_WORDS", 16)
    monkeypatch.setattr(spelled, "POOL_WORDS", 30)
    found = Embedder(of_words, pooling=pooling, layer=layer).embed([*ROWS, []])
    assert np.isnan(found[-1]).all()
    for row, vector in zip(ROWS, found, strict=False):
        np.testing.assert_allclose(vector, of_row(of_words, row, pooling, layer), atol=ROUNDING)


def test_a_text_for_a_model_of_words_is_split(tagger):
    embedder = Embedder(tagger)
    np.testing.assert_array_equal(embedder.embed(["Mary saw Zoë."]), embedder.embed([["Mary", "saw", "Zoë", "."]]))


def test_no_rows_have_no_vectors(language_model, translation, tagger):
    for checkpoint in (language_model, translation, tagger):
        assert Embedder(checkpoint).embed([]).shape == (0, 8)


def test_normalised_vectors_have_length_one_and_the_same_direction(language_model):
    plain = Embedder(language_model).embed(TEXTS)
    found = Embedder(language_model, normalise=True).embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=ROUNDING)
    np.testing.assert_allclose(found, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=ROUNDING)


@pytest.mark.parametrize("layer", [0, 3, -3, 99])
def test_a_layer_that_is_not_there_is_refused(language_model, translation, tagger, layer):
    for checkpoint in (language_model, translation, tagger):
        with pytest.raises(ConfigError, match=rf"layer: there is no layer {layer} among 2; take 1 \(the lowest\) to 2"):
            Embedder(checkpoint, layer=layer)


def test_final_states_that_are_mixed_are_refused(tmp_path):
    encoder = [BidirectionalConfig(forward=LSTMConfig(hidden_size=5), combine="sum")]
    checkpoint = save_words(tmp_path, "tagging", encoder=encoder)
    with pytest.raises(ConfigError, match=r"pooling: the final states of the layer \(Bidirectional\) do not stand"):
        Embedder(checkpoint)
    assert Embedder(checkpoint, pooling="mean").embed([["Mary"]]).shape == (1, 5)


def test_where_the_forward_direction_ends():
    gru = GRUConfig(hidden_size=3)
    backward = ReadingOrderConfig(inner=gru)
    assert forward_size(gru.build(2)) == 3
    assert forward_size(backward.build(2)) == 0
    assert forward_size(BidirectionalConfig(forward=gru, backward=LSTMConfig(hidden_size=4)).build(2)) == 3
    for mixed in [
        BidirectionalConfig(forward=backward),
        BidirectionalConfig(forward=gru, combine="gate"),
        ReadingOrderConfig(inner=gru, order="middle_out"),
        ReadingOrderConfig(inner=backward),
    ]:
        assert forward_size(mixed.build(2)) is None


def test_rows_of_words_are_refused_by_a_model_of_texts(language_model):
    with pytest.raises(DataError, match="row 1 is no text but list; the model reads texts"):
        Embedder(language_model).embed(["the cat", ["the", "cat"]])


# ----- in bulk


def processed(work, **columns):
    table = pa.table(columns)
    found = work.build("cpu").process(table, np.arange(table.num_rows))
    for field in work.new_fields():
        assert found.columns[field.name].type == field.type
        found.columns[field.name].validate(full=True)
    return {name: column.to_pylist() for name, column in found.columns.items()}, found.num_tokens


def test_rows_without_a_vector_say_why(language_model, translation, tagger):
    columns, num_tokens = processed(EmbedWork(checkpoint=path(language_model)), text=["the cat", None, ""])
    assert columns["error"] == [None, "null_text: the text is null", None]
    np.testing.assert_array_equal(columns["vector"][0], Embedder(language_model).embed(["the cat"])[0])
    assert columns["vector"][1] is None
    assert num_tokens == 3 + 1
    columns, _ = processed(EmbedWork(checkpoint=path(translation)), text=["the cat", None, "  "])
    assert [error and error.split(":")[0] for error in columns["error"]] == [None, "null_text", "empty_source"]
    work = EmbedWork(checkpoint=path(tagger), words_column="words", vector_column="h")
    columns, num_tokens = processed(work, words=[None, [], ["Mary", None], ["Mary", ""], ["Mary"] * 3])
    codes = [error and error.split(":")[0] for error in columns["error"]]
    assert codes == ["null_text", "no_words", "null_word", "empty_word", None]
    assert [vector is not None for vector in columns["h"]] == [False] * 4 + [True]
    assert num_tokens == 3
    columns, _ = processed(work, words=["Mary saw.", "", None])
    assert [error and error.split(":")[0] for error in columns["error"]] == [None, "no_words", "null_text"]


def test_a_vector_that_is_not_finite_is_an_error_of_its_row(language_model, monkeypatch):
    whole = Embedder.embed

    def broken(self, rows, **options):
        found = whole(self, rows, **options)
        found[1, 2] = np.inf
        return found

    monkeypatch.setattr(Embedder, "embed", broken)
    columns, num_tokens = processed(EmbedWork(checkpoint=path(language_model)), text=["a", "the cat", "dog"])
    assert columns["error"] == [None, NO_VECTOR, None]
    assert columns["vector"][1] is None
    assert num_tokens == 4


def test_a_table_of_nulls_and_a_row_that_raises(language_model, monkeypatch):
    columns, _ = processed(EmbedWork(checkpoint=path(language_model)), text=pa.nulls(3, pa.string()))
    assert columns["vector"] == [None] * 3
    whole = Embedder.embed

    def failing(self, rows, **options):
        if "bad" in rows:
            raise RuntimeError("broken")
        return whole(self, rows, **options)

    monkeypatch.setattr(Embedder, "embed", failing)
    work = EmbedWork(checkpoint=path(language_model))
    guard = RowGuard(work.build("cpu"), work.new_fields())
    found = guard.process(pa.table({"text": ["a", "bad", "dog"]}), np.arange(3)).columns
    assert pa.chunked_array([found["error"]]).to_pylist() == [None, "failed: RuntimeError: broken", None]
    assert pa.chunked_array([found["vector"]]).null_count == 1


def test_what_does_not_fit_is_refused_before_the_work_begins(language_model, tagger):
    with pytest.raises(ConfigError, match="words_column: the checkpoint reads texts"):
        EmbedWork(checkpoint=path(language_model), words_column="words").check_model()
    with pytest.raises(ConfigError, match="words_column: the checkpoint reads words"):
        EmbedWork(checkpoint=path(tagger)).check_model()
    with pytest.raises(ConfigError, match="layer: there is no layer 5"):
        EmbedWork(checkpoint=path(language_model), layer=5).check_model()
    schema = pa.schema([("text", pa.string()), ("vector", pa.int32())])
    with pytest.raises(ConfigError, match=r"already has a column 'vector'; name the new one otherwise"):
        EmbedWork(checkpoint=path(language_model)).output_schema(schema, schema.names)


def test_identity_names_what_decides_the_output(language_model, tmp_path):
    def identity(**changed):
        return EmbedWork(**{"checkpoint": path(language_model), **changed}).identity()

    assert identity() == identity()
    for changed in [
        {"checkpoint": path(save_tiny(tmp_path / "other"))},
        {"text_column": "body"},
        {"words_column": "words"},
        {"pooling": "mean"},
        {"layer": 1},
        {"normalise": True},
        {"vector_column": "h"},
        {"threads": 2},
    ]:
        assert identity(**changed) != identity(), changed


def test_a_run_that_was_stopped_ends_with_the_same_bytes(language_model, tmp_path):
    texts = [None if row % 9 == 4 else text for row, text in enumerate(sentences(60))]
    pq.write_table(pa.table({"id": range(60), "text": texts}), tmp_path / "corpus.parquet", row_group_size=10)
    corpus = ParquetCorpus(path=str(tmp_path / "corpus.parquet"))

    def plan(output, **options):
        work = EmbedWork(checkpoint=path(language_model), **options)
        return prepare(work, corpus, str(tmp_path / output), target_seconds=1.0, kind="row_group")

    def stopped(run, shards, on_progress):
        yield from itertools.islice(run_here(run, shards, on_progress), 2)
        raise TerminatedError("terminated")

    execute(plan("whole"), run_here, on_event=lambda event: None)
    with pytest.raises(TerminatedError):
        execute(plan("out"), stopped, on_event=lambda event: None)
    finished = execute(plan("out"), run_here, on_event=lambda event: None)
    assert (finished.resumed_shards, finished.totals.shards, finished.totals.null) == (2, 6, 7)
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    table = pq.read_table(tmp_path / "out/data")
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 8)
    assert table.column("vector").null_count == 7
    with pytest.raises(RefusedError, match="pooling"):
        execute(plan("out", pooling="max"), run_here, on_event=lambda event: None)
