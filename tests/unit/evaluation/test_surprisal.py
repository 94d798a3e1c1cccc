"""Surprisal in reports: figures against a plain count over all words, and what the page makes of them."""

import json
import math
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluate import evaluate
from jobs.schemas import EvaluateJob
from rnnlm.config import from_dict
from rnnlm.errors import DataError
from rnnlm.evaluation import surprisal
from rnnlm.evaluation.scored import ScoredColumns, has_words, open_scored
from rnnlm.evaluation.surprisal import (
    MAX_CHARS,
    MIN_COUNT,
    MIN_WORDS,
    SHOWN_OCCURRENCES,
    SHOWN_TYPES,
    measure_surprisal,
)
from rnnlm.evaluation.surprisal_report import LEGEND, level

ROUNDING = 1e-9  # sums of some thousand float64 numbers
LN2 = math.log(2)
WITH_IDS = ScoredColumns(id="id")
WORDS = pa.list_(pa.struct([("start_char", pa.int32()), ("end_char", pa.int32()), ("logprob", pa.float64())]))


def scored(texts, bits):
    """A table as jobs.score words=true writes it; `bits` of each word of each text, NaN for null; None: not scored."""
    column = []
    for text, values in zip(texts, bits, strict=True):
        if values is None:
            column.append(None)
            continue
        words, end = [], 0
        for word, value in zip(text.split(), values, strict=True):
            start = text.index(word, end)
            end = start + len(word)
            words.append({"start_char": start, "end_char": end, "logprob": None if math.isnan(value) else -value * LN2})
        column.append(words)
    return pa.table(
        {
            "id": [f"row {number}" for number in range(len(texts))],
            "text": pa.array(texts, pa.string()),
            "logprob": [None if values is None else -LN2 * np.nansum(values) for values in bits],
            "num_tokens": pa.array([None if values is None else len(values) + 1 for values in bits], pa.int32()),
            "words": pa.array(column, WORDS),
        }
    )


def measured(folder, table, columns=WITH_IDS):
    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(table, folder / "data" / "part-000000.parquet")
    files, needs = open_scored(str(folder), columns)
    assert has_words(files[0])
    return measure_surprisal(files, needs, columns)


def corpus(num_texts=700, seed=0):
    random = np.random.default_rng(seed)
    texts, bits = [], []
    for _ in range(num_texts):
        # Numbers of words from 0 up; frequent words and rare ones.
        words = [f"w{int(number)}" for number in random.zipf(1.4, size=random.integers(0, 25)) if number < 10**9]
        texts.append("  ".join(words) + random.choice(["", "\n", " "]))
        bits.append(random.gamma(2.0, 3.0, size=len(words)))
    return texts, bits


def test_figures_are_those_of_a_plain_count(tmp_path):
    texts, bits = corpus()
    texts[5], bits[5] = None, None
    texts[6], bits[6] = f"{'x' * (MAX_CHARS + 1)} short", [500.0, math.nan]
    found = measured(tmp_path, scored(texts, bits))
    pairs = [
        (word, value)
        for text, values in zip(texts, bits, strict=True)
        for word, value in zip((text or "").split(), () if values is None else values, strict=True)
        if not math.isnan(value)
    ]
    assert found.num_words == len(pairs)
    assert found.mean_bits == pytest.approx(sum(value for _, value in pairs) / len(pairs), rel=ROUNDING)
    assert (found.min_count, found.missed) == (MIN_COUNT, 0)
    each = defaultdict(list)
    for word, value in pairs:
        if len(word) <= MAX_CHARS:
            each[word].append(value)
    seen = {word: values for word, values in each.items() if len(values) >= MIN_COUNT}
    by_mean = sorted(seen, key=lambda word: -np.mean(seen[word]))[:SHOWN_TYPES]
    by_total = sorted(seen, key=lambda word: -np.sum(seen[word]))[:SHOWN_TYPES]
    assert [one.word for one in found.by_mean] == by_mean
    assert [one.word for one in found.by_total] == by_total
    for one in (*found.by_mean, *found.by_total):
        values = seen[one.word]
        assert one.count == len(values)
        assert (one.mean_bits, one.total_bits) == pytest.approx((np.mean(values), np.sum(values)), rel=ROUNDING)
    highest = sorted(each, key=lambda word: -max(each[word]))[:SHOWN_OCCURRENCES]
    assert [one.word for one in found.occurrences] == highest
    for one in found.occurrences:
        assert one.bits == pytest.approx(max(each[one.word]), rel=ROUNDING)
        assert one.id == f"row {one.row}"
        assert (one.before.lstrip("\N{HORIZONTAL ELLIPSIS}") + one.word) in texts[one.row]


def test_texts_are_the_extremes_and_such_as_most_are(tmp_path):
    texts, bits = corpus()
    texts[8], bits[8] = "a b c", [900.0] * 3  # too short to count
    for row in (3, 4):  # the same text twice
        texts[row], bits[row] = "the very same words stand here once again " * 2, [0.01] * 16
    found = measured(tmp_path, scored(texts, bits))
    means = {row: np.mean(values) for row, values in enumerate(bits) if len(values) >= MIN_WORDS}
    distinct = {texts[row]: row for row in sorted(means, reverse=True)}.values()  # the first of equals
    ordered = sorted(distinct, key=means.get)
    assert [text.row for text in found.least] == ordered[:3]
    assert [text.row for text in found.most] == ordered[:-4:-1]
    quartiles = np.quantile(list(means.values()), [0.4, 0.6])
    assert len(found.typical) == 3
    assert all(quartiles[0] < text.mean_bits < quartiles[1] for text in found.typical)
    for shown in (*found.least, *found.typical, *found.most):
        assert shown.mean_bits == pytest.approx(means[shown.row], rel=ROUNDING)
        assert shown.num_words == len(bits[shown.row])
        assert "".join(before + word for before, word, _ in shown.words) == texts[shown.row].strip()
        assert [value for _, _, value in shown.words] == pytest.approx(list(bits[shown.row]), rel=ROUNDING)
        assert not shown.cut


def test_a_long_text_is_cut_between_words(tmp_path):
    text = "  " + "word " * 500
    shown = measured(tmp_path, scored([text], [[1.0] * 500])).most[0]
    assert (shown.num_words, len(shown.words), shown.cut) == (500, 80, True)
    assert "".join(before + word for before, word, _ in shown.words) == text[2:401]


def test_batches_change_nothing(tmp_path, monkeypatch):
    table = scored(*corpus())
    whole = measured(tmp_path, table, ScoredColumns())
    monkeypatch.setattr(surprisal, "ROWS", 700)
    found = measured(tmp_path, table, ScoredColumns())
    assert [one.word for one in found.by_mean] == [one.word for one in whole.by_mean]
    assert (found.occurrences, found.most, found.typical, found.least) == (
        *(whole.occurrences, whole.most, whole.typical, whole.least),
    )


def test_with_more_types_than_fit_frequent_ones_are_right_up_to_what_is_said(tmp_path, monkeypatch):
    texts, bits = corpus(2000)
    exact = measured(tmp_path, scored(texts, bits))
    monkeypatch.setattr(surprisal, "MAX_TYPES", 400)
    found = measured(tmp_path, scored(texts, bits))
    counts = {one.word: one.count for one in exact.by_total}
    assert found.missed > 0
    assert {one.word for one in found.by_total[:8]} == {one.word for one in exact.by_total[:8]}
    for one in found.by_total[:8]:
        assert counts[one.word] - found.missed <= one.count <= counts[one.word]
    assert (found.num_words, found.occurrences) == (exact.num_words, exact.occurrences)


def test_words_of_another_column_are_noticed(tmp_path):
    table = scored(["the cat", "a dog"], [[1.0, 2.0], [3.0, 4.0]])
    other = table.set_column(1, "text", pa.array(["die Katze", "ein Hund"]))
    with pytest.raises(DataError, match=r"words of rows 0 to 1 are not those of their texts.*text_column is 'text'"):
        measured(tmp_path, other)


def test_words_that_stand_elsewhere_are_noticed(tmp_path):
    table = scored(["the  cat"], [[1.0, 2.0]])
    other = table.set_column(1, "text", pa.array(["the cat"]))
    with pytest.raises(DataError, match=r"words of rows 0 to 0 are not those of their texts"):
        measured(tmp_path, other)


@pytest.mark.parametrize(
    "words",
    [["the", "cat"], [{"start_char": "0", "end_char": "3", "logprob": "-1"}], [{"start_char": 0, "end_char": 3}]],
)
def test_a_column_of_words_as_such_is_no_surprisal(tmp_path, words):
    file = tmp_path / "labelled.parquet"
    pq.write_table(pa.table({"words": [words]}), file)
    assert not has_words(str(file))


def test_no_scored_words_are_no_surprisal(tmp_path):
    assert measured(tmp_path, scored(["", None], [[], None])) is None


def test_the_legend_names_the_levels():
    assert [level(bits) for bits in (-0.1, 1.9, 2, 4, 11.9, 12, 99)] == [0, 0, 1, 2, 3, 4, 5]
    assert len(LEGEND) == 6
    assert (LEGEND[2], LEGEND[5]) == ("4 to 8", "16 or more")


def test_the_report_shows_words_by_their_surprisal(tmp_path):
    texts = ["if <b>x</b> & y then it is so | and so on too", "the cat sat on the mat and slept well , so they say"]
    bits = [[0.5, 17.25, 5.0, 3.0, math.nan, 1, 1, 1, 9, 1, 1, 1, 1], [13.0, *[1.0] * 12]]
    pq.write_table(scored(texts, bits), tmp_path / "scored.parquet")
    job = {"scored": str(tmp_path / "scored.parquet"), "id_column": "id"}
    evaluate(from_dict(EvaluateJob, {**job, "output": str(tmp_path / "report")}))
    html, markdown = ((tmp_path / "report" / name).read_text() for name in ("report.html", "report.md"))
    assert '<span class="h5" title="17.25 bits">&lt;b&gt;x&lt;/b&gt;</span> <span class="h2" title="5.00 bits">' in html
    assert '<span title="no token of its own">then</span> <span class="h0" title="1.00 bits">it</span>' in html
    assert "<b>x</b>" not in html
    content = json.loads((tmp_path / "report/report.json").read_text())["surprisal"]
    assert content["occurrences"][0]["word"] == "<b>x</b>"
    assert content["most"][0]["id"] == "row 0"
    assert "Surprisal: 25 words of 2.67 bits each." in markdown
    assert "| if **&lt;b>x&lt;/b>** | 17.25 | row 0 |" in markdown
    evaluate(from_dict(EvaluateJob, {**job, "text_column": None, "output": str(tmp_path / "without")}))
    assert json.loads((tmp_path / "without/report.json").read_text())["surprisal"] is None
