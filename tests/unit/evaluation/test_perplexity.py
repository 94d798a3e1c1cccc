import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.errors import DataError
from rnnlm.evaluation import scored
from rnnlm.evaluation.baselines import measure_baselines
from rnnlm.evaluation.perplexity import EXCERPT, EXTREMES, MAX_GROUPS, MIN_EXTREME_BYTES, Totals, evaluate_scored
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
    assert (total.rows, total.errors, total.nulls, total.tokens) == (4, 1, 0, 6)
    assert (total.num_bytes, total.chars, total.words) == (9 + 5, 9 + 4, 3)
    assert total.nats_per_token == pytest.approx(13 / 6, rel=ROUNDING)
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


def test_every_row_without_a_score_is_counted_and_nothing_of_it_is_summed(tmp_path):
    scored_rows = {
        "fine": (-2.0, 2, None),
        "refused": (-9.0, 9, "too_long: the text has 9 tokens"),  # an error outweighs a score beside it
        "not a number": (math.nan, 9, None),
        "infinite": (-math.inf, 9, "non_finite: the log-probability is not a finite number"),
        "no count": (-9.0, None, None),
        "nothing": (None, None, None),
    }
    logprobs, tokens, errors = zip(*scored_rows.values(), strict=True)
    columns = {"text": list(scored_rows), "logprob": logprobs, "error": pa.array(errors, pa.string())}
    table = pa.table({**columns, "num_tokens": pa.array(tokens, pa.int32())})
    found = evaluate_scored(write(tmp_path, table), ScoredColumns())
    assert found.total == Totals(
        rows=6, errors=5, nulls=3, logprob=-2.0, tokens=2, num_bytes=len("fine"), chars=len("fine"), words=1
    )
    assert found.histograms["all"].sum() == 1


def test_a_histogram_holds_every_scored_text_in_its_bin(tmp_path):
    wanted = [0.0, -1e-9, 0.049, 0.051, 15.99, 1e6]  # bits per byte; rounding can make a sure thing more than sure
    table = pa.table(
        {
            "text": ["x" * 10] * len(wanted),
            "logprob": [-bits * 10 * math.log(2) for bits in wanted],
            "num_tokens": pa.array([3] * len(wanted), pa.int32()),
        }
    )
    counts = evaluate_scored(write(tmp_path, table), ScoredColumns()).histograms["all"]
    assert {int(place): int(counts[place]) for place in counts.nonzero()[0]} == {0: 3, 1: 1, 319: 2}


def test_extremes_are_excerpts_of_long_rows_only(tmp_path):
    texts = ["short", "m" * MIN_EXTREME_BYTES, "l" * (EXCERPT + 1)]
    table = pa.table(
        {"text": texts, "logprob": [-1e4, -64.0, -64.0], "num_tokens": pa.array([1, 2, 3], pa.int32()), "id": [7, 8, 9]}
    )
    found = evaluate_scored(write(tmp_path, table), ScoredColumns(id="id"))
    assert [e.id for e in found.most_surprising] == ["8", "9"]
    assert [e.id for e in found.least_surprising] == ["9", "8"]
    assert found.least_surprising[0].excerpt == "l" * EXCERPT + "\u2026"


def test_a_column_of_many_values_is_no_group(tmp_path):
    rows = MAX_GROUPS + 1
    table = pa.table({"name": range(rows), "logprob": [-1.0] * rows, "num_tokens": pa.array([1] * rows, pa.int32())})
    path = write(tmp_path, table)
    with pytest.raises(DataError, match="'name' has more than 1,000 values"):
        evaluate_scored(path, ScoredColumns(text=None, group="name"))
    assert len(evaluate_scored(write(tmp_path, table.slice(1)), ScoredColumns(None, "name")).groups) == MAX_GROUPS


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
        (lambda t: t, ScoredColumns(text="num_tokens"), ["'num_tokens'", "int32", "text is needed"]),
        (lambda t: t.set_column(2, "text", pa.array([b"x"] * 4)), ScoredColumns(), ["binary", "text is needed"]),
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


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda t: t.drop_columns(["logprob"]), ["'logprob'", "no column"]),
        (lambda t: t.set_column(3, "logprob", pa.array(["x"] * 4)), ["'logprob'", "string"]),
        (lambda t: None, ["not readable as Parquet"]),
        (
            lambda t: t.set_column(2, "text", pa.array([b"\xff"] * 4).view(pa.string())),
            ["not readable as Parquet", "UTF8"],
        ),
    ],
)
def test_a_later_file_that_does_not_fit_is_named(tmp_path, table, second, words):
    path = write(tmp_path, table)
    if second(table) is None:
        (tmp_path / "data" / "part-000001.parquet").write_bytes(b"cut short")
    else:
        write(tmp_path, second(table), "part-000001.parquet")
    with pytest.raises(DataError) as caught:
        evaluate_scored(path, ScoredColumns())
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "part-000001.parquet" in message
    assert len(message.splitlines()) <= 3


def test_a_later_file_may_do_without_errors(tmp_path, table):
    write(tmp_path, table)
    path = write(tmp_path, table.drop_columns(["error"]), "part-000001.parquet")
    total = evaluate_scored(path, ScoredColumns()).total
    assert (total.rows, total.errors, total.nulls) == (8, 2, 1)


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
