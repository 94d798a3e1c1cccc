"""Spans that may nest: rows in any order and company, places in the text, options, rows that cannot be read."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnlm.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rnnlm.data.labelled import NO_WORDS, LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.labels.entities import SCORED_ENTITIES
from rnnlm.data.labels.schemes import Span
from rnnlm.data.labels.words import split_words
from rnnlm.data.span_table import SpanTable
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.errors import ConfigError
from rnnlm.inference import spelled
from rnnlm.inference.find_spans import SpanFinder, candidates
from rnnlm.inference.predict.calibration import Calibration
from rnnlm.inference.predict_work import PredictWork
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.span_model import SpanModel
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.storage import open_location
from rnnlm.tasks.entities import EntitiesConfig

WORDS = ["Mary", "saw", "Peter", "in", "New", "York", ".", "Zoë", "日本", "O'Neil", "x1"]
TYPES = ["GPE", "LOC", "PER"]
TEXTS = ["Mary  saw\tPeter.", " Zoë in  New York\n", None, "  ", "日本 😀 O'Neil, x1", "Mary"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    """A model with random weights, far enough from the prior that spans come up, nested and not."""
    folder = str(tmp_path_factory.mktemp("spans"))
    features = [
        WordEmbeddingConfig(size=6),
        RecurrentCharactersConfig(embedding_size=4, cell=LSTMConfig(hidden_size=3)),
    ]
    task = EntitiesConfig(cell=LSTMConfig(hidden_size=8), words=features, projection_size=6)
    tokenizer = LabelsConfig().train_labelled([(WORDS[:8], TYPES)])
    torch.manual_seed(3)
    model = task.build(tokenizer)
    for parameter in model.parameters():
        parameter.data.mul_(4.0)
    model.of_starts.bias.data.fill_(-1.0)
    save_checkpoint(open_location(folder), task=task, model=model, tokenizer=tokenizer, trained={})
    return load_checkpoint(folder)


def random_rows(count, *, longest=12, seed=0):
    random = np.random.default_rng(seed)
    return [list(random.choice(WORDS, size=random.integers(0, longest))) for _ in range(count)]


def work_of(checkpoint, **fields):
    return PredictWork(checkpoint=str(checkpoint.location.path), **fields)


def processed(work, **columns):
    table = pa.table(columns)
    found = work.build("cpu").process(table, np.arange(table.num_rows))
    assert {name: column.type for name, column in found.columns.items()} == {
        work.prefix + "entities": SCORED_ENTITIES,
        "error": pa.string(),
    }
    return {name: column.to_pylist() for name, column in found.columns.items()}


def test_spans_of_a_row_are_found_as_if_it_were_alone(checkpoint, monkeypatch):
    monkeypatch.setattr(spelled, "BATCH_WORDS", 40)
    monkeypatch.setattr(spelled, "POOL_WORDS", 150)
    finder, rows, shares = SpanFinder(checkpoint), random_rows(60), []
    found = finder.find(rows, report=shares.append)
    assert shares[-1] == 1.0
    for row, spans in zip(rows, found, strict=True):
        (alone,) = finder.find([row])
        assert [one[:3] for one in spans] == [one[:3] for one in alone]
        np.testing.assert_allclose([one[3] for one in spans], [one[3] for one in alone], atol=1e-5)
    assert sum(map(len, found)) > 60
    table = LabelledTable.from_rows(rows, None, checkpoint.tokenizer)
    expected = checkpoint.model.eval().decode(LabelledReader(table).read(np.arange(len(rows))))
    assert [[one[:3] for one in row] for row in found] == [[one[:3] for one in row] for row in expected]


def test_an_entity_of_a_split_text_is_a_slice_of_it(checkpoint):
    columns = processed(work_of(checkpoint, words_column="text", splits=True), text=TEXTS)
    assert columns["error"] == [None, None, "null_text: the text is null", NO_WORDS, None, None]
    count = 0
    for text, found in zip(TEXTS, columns["entities"], strict=True):
        for one in found or []:
            words = list(split_words(text))[one["start_word"] : one["end_word"]]
            assert "".join(text[one["start_char"] : one["end_char"]].split()) == "".join(words)
            assert one["type"] in TYPES
            assert 0.5 <= one["score"] <= 1
            count += 1
    assert count > 3


def test_entities_of_given_words_lie_in_the_text_if_the_words_are_all_it_holds(checkpoint):
    rows = [["Mary", "saw", "New", "York", "."]] * 3
    texts = ["Mary  saw New\nYork. ", "Mary had seen New York.", None]
    columns = processed(work_of(checkpoint, text_column="text"), words=rows, text=texts)
    assert all(columns["entities"])
    within = [texts[0], " ".join(rows[1]), " ".join(rows[2])]
    for words, text, found in zip(rows, within, columns["entities"], strict=True):
        for one in found:
            inside = words[one["start_word"] : one["end_word"]]
            assert "".join(text[one["start_char"] : one["end_char"]].split()) == "".join(inside)


def test_spans_nest_unless_they_are_to_be_flat_and_the_threshold_counts(checkpoint):
    def spans(**fields):
        return [
            [(one["start_word"], one["end_word"], one["type"]) for one in row or []]
            for row in processed(work_of(checkpoint, **fields), words=random_rows(40, seed=2))["entities"]
        ]

    nested, flat = spans(), spans(flat=True)
    assert all(row == sorted(row, key=lambda one: (one[0], -one[1], one[2])) for row in nested)
    assert any(len(row) > len(other) for row, other in zip(nested, flat, strict=True))
    for row in flat:
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(row))
    few, none = spans(threshold=0.9), spans(threshold=1.0)
    assert sum(map(len, none)) <= sum(map(len, few)) < sum(map(len, nested))


def test_candidates_hold_what_every_threshold_finds(checkpoint):
    rows = [row for row in random_rows(40, seed=3) if row]
    gold = [[Span(0, 1, "PER"), Span(0, len(row), "new")] for row in rows]  # "new" is in no vocabulary
    table = SpanTable.from_spans(rows, gold, checkpoint.tokenizer)
    found = candidates(checkpoint, table)
    assert found.num_right == 2 * len(rows)
    per = TYPES.index("PER")
    for threshold in (0.05, 0.3, 0.5, 0.9):
        spans = [one for row in SpanFinder(checkpoint, threshold=threshold).find(rows) for one in row]
        assert (found.probabilities >= threshold).sum() == len(spans)
        right = sum(one[:3] == (0, 1, per) for one in spans)
        assert (found.right & (found.probabilities >= threshold)).sum() == right
    assert found.right.any()


def test_a_calibration_gives_the_threshold(checkpoint, tmp_path):
    fitted = Calibration(model=checkpoint.fingerprint, threshold=0.8, trained={})
    fitted.save(open_location(str(tmp_path)))
    rows = random_rows(40, seed=2)
    found = processed(work_of(checkpoint, calibration=str(tmp_path)), words=rows)
    assert found == processed(work_of(checkpoint, threshold=0.8), words=rows)
    with pytest.raises(ConfigError, match="threshold: it is part of the calibration"):
        work_of(checkpoint, calibration=str(tmp_path), threshold=0.8).check_model()


def test_rows_that_cannot_be_read_say_why(checkpoint):
    rows = [None, [], ["Mary", None], ["Mary", ""], ["Mary"] * 4, ["Mary"] * 3]
    columns = processed(work_of(checkpoint, max_words=3), words=rows)
    codes = [error and error.split(":")[0] for error in columns["error"]]
    assert codes == ["null_text", "no_words", "null_word", "empty_word", "long_row", None]
    assert [found is not None for found in columns["entities"]] == [False] * 5 + [True]


def test_a_probability_that_is_not_finite_is_an_error_of_its_row(checkpoint, monkeypatch):
    whole = SpanModel.probabilities

    def broken(self, batch):
        found = whole(self, batch)
        found[1, 0, 0, 0] = torch.nan
        return found

    monkeypatch.setattr(SpanModel, "probabilities", broken)
    columns = processed(work_of(checkpoint), words=[["Mary"], ["saw"]])
    assert columns["error"][0] is None
    assert columns["error"][1].startswith("non_finite")
    assert columns["entities"][1] is None


@pytest.mark.parametrize(
    "fields",
    [{"window": 5}, {"probabilities": True}, {"temperature": 2.0}, {"entities": False}, {"k_best": 2}],
    ids=str,
)
def test_options_of_other_models_are_refused(checkpoint, fields):
    work_of(checkpoint, entities=True, flat=True, threshold=0.1).check_model()
    with pytest.raises(ConfigError, match=next(iter(fields))):
        work_of(checkpoint, **fields).check_model()


def test_identity_names_the_options(checkpoint):
    assert work_of(checkpoint).identity() != work_of(checkpoint, flat=True).identity()
