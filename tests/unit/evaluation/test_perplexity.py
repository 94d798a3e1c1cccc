import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.errors import DataError
from rnnlm.evaluation import scored
from rnnlm.evaluation.baselines import measure_baselines
from rnnlm.evaluation.perplexity import EXTREMES, evaluate_scored
from rnnlm.evaluation.scored import ScoredColumns

ROUNDING = 1e-12  # sums of a few float64 numbers


@pytest.fixture
def table():
    return pa.table(
        {
            "id": ["a", "b", "c", "d"],
            "kind": ["x", "y", "x", None],
            "text": ["two words", "\u00fcber", None, ""],
            "logprob": [-8.0, -4.0, None, -1.0],
            "num_tokens": pa.array([3, 2, None, 1], pa.int32()),
            "error": [None, None, "null_text: the text is null", None],
        }
    )


def write(folder, table, name="part-000000.parquet"):
    (folder / "data").mkdir(exist_ok=True, parents=True)
    pq.write_table(table, folder / "data" / name)
    return str(folder)


def test_figures_by_hand(tmp_path, table):
    found = evaluate_scored(write(tmp_path, table), ScoredColumns(group="kind", id="id"))
    total = found.total
    assert (total.rows, total.errors, total.tokens) == (4, 1, 6)
    assert (total.num_bytes, total.chars, total.words) == (9 + 5, 9 + 4, 3)
    assert total.token_perplexity == pytest.approx(math.exp(13 / 6), rel=ROUNDING)
    assert total.word_perplexity == pytest.approx(math.exp(13 / (3 + 3)), rel=ROUNDING)  # three rows have an end
    assert total.bits_per_byte == pytest.approx(13 / math.log(2) / 14, rel=ROUNDING)
    assert total.bits_per_char == pytest.approx(13 / math.log(2) / 13, rel=ROUNDING)
    assert {name: group.rows for name, group in found.groups.items()} == {"null": 1, "x": 2, "y": 1}
    assert sum(int(counts.sum()) for counts in found.histograms.values()) == 2  # texts with bytes and a score


def test_batches_and_files_add_up_to_the_same(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    size = 1000
    texts = ["w" * int(n) for n in generator.integers(1, 200, size)]
    whole = pa.table(
        {
            "text": texts,
            "logprob": -generator.random(size) * 100,
            "num_tokens": pa.array(generator.integers(1, 50, size), pa.int32()),
        }
    )
    one = evaluate_scored(write(tmp_path / "one", whole), ScoredColumns())
    monkeypatch.setattr(scored, "BATCH_ROWS", 7)
    for index in range(4):
        path = write(tmp_path / "four", whole.slice(index * 250, 250), f"part-{index:06d}.parquet")
    four = evaluate_scored(path, ScoredColumns())
    assert four.total == one.total
    assert [e.row for e in four.most_surprising] == [e.row for e in one.most_surprising]
    bits = [
        (-lp / math.log(2) / len(text), -row)
        for row, (lp, text) in enumerate(zip(whole["logprob"].to_pylist(), texts, strict=True))
        if len(text) >= 64
    ]
    assert [e.row for e in one.most_surprising] == [-row for _, row in sorted(bits, reverse=True)[:EXTREMES]]
    assert one.least_surprising[0].bits_per_byte == pytest.approx(min(bits)[0], rel=ROUNDING)
    assert np.array_equal(four.histograms["all"], one.histograms["all"])


def test_without_a_text_column_there_are_no_figures_a_byte(tmp_path, table):
    path = write(tmp_path, table.drop_columns(["text", "error"]))
    total = evaluate_scored(path, ScoredColumns(text=None)).total
    assert total.bits_per_byte is None
    assert total.word_perplexity is None
    assert total.token_perplexity == pytest.approx(math.exp(13 / 6), rel=ROUNDING)


@pytest.mark.parametrize(
    ("change", "columns", "words"),
    [
        (lambda t: t.drop_columns(["logprob"]), ScoredColumns(), ["'logprob'", "jobs.score"]),
        (lambda t: t.set_column(3, "logprob", pa.array(["x"] * 4)), ScoredColumns(), ["string", "floating point"]),
        (lambda t: t, ScoredColumns(text="body"), ["'body'", "text_column"]),
        (lambda t: t, ScoredColumns(group="language"), ["'language'", "group_by"]),
    ],
)
def test_a_column_that_does_not_fit_is_named(tmp_path, table, change, columns, words):
    path = write(tmp_path, change(table))
    with pytest.raises(DataError) as caught:
        evaluate_scored(path, columns)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "part-000000.parquet" in message
    assert len(message.splitlines()) <= 3


def test_baselines_of_known_texts(tmp_path):
    table = pa.table({"text": ["ab" * 500, None, "", "ab" * 500]})
    found = measure_baselines([write(tmp_path, table) + "/data/part-000000.parquet"], "text")
    assert found is not None
    assert found.order0 == pytest.approx(1.0, rel=ROUNDING)  # two equally frequent bytes
    assert 0.0 < found.gzip < 0.2  # pure repetition
    assert 0.0 < found.xz < 1.0


def test_there_is_no_baseline_without_text(tmp_path):
    table = pa.table({"text": pa.array([None, ""], pa.string())})
    assert measure_baselines([write(tmp_path, table) + "/data/part-000000.parquet"], "text") is None
