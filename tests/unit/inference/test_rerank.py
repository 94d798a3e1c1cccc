"""Hypotheses in another order, and the weights that are found for it."""

import numpy as np
import pyarrow as pa
import pytest

from rnnlm.errors import ConfigError, DataError
from rnnlm.evaluation.reranking import tune
from rnnlm.inference.rerank_work import RerankWork, features_of, read_hypotheses
from rnnlm.inference.score import Scorer
from tests.corpora import save_tiny_translation

ROWS = [
    [("the cat", -3.0, "end"), ("a dog ran", -3.5, "end"), ("the", -4.0, "length")],
    None,
    [],
    [("ran on", -1.0, "end")],
]


def table_of(rows=ROWS):
    hypotheses = [
        None
        if row is None
        else [
            {"text": text, "tokens": list(range(len(text.split()))), "logprob": logprob, "finish_reason": reason}
            for text, logprob, reason in row
        ]
        for row in rows
    ]
    errors = ["null_text: the text is null" if row is None else None for row in rows]
    return pa.table({"id": list(range(len(rows))), "hypotheses": hypotheses, "error": errors, "alignment": errors})


def test_hypotheses_are_ordered_by_the_weighted_sum(tiny_checkpoint):
    work = RerankWork(language_model=tiny_checkpoint.location.address, lm_weight=0.5, length_weight=30.0)
    table = table_of()
    assert work.kept_columns(table.column_names) == ["id"]
    found = work.build("cpu").process(table, np.arange(4)).columns
    rows = found["hypotheses"].to_pylist()
    assert rows[1] is None
    assert rows[2] == []
    assert found["error"].to_pylist() == table.column("error").to_pylist()
    for row, given in zip(rows, ROWS, strict=True):
        for one in row or []:
            (logprob, reason) = next((p, r) for text, p, r in given if text == one["text"])
            lm_logprob = Scorer(tiny_checkpoint).score_texts([one["text"]]).logprob[0]
            length = len(one["tokens"]) + (reason == "end")
            assert one["lm_logprob"] == pytest.approx(lm_logprob, abs=1e-4)
            assert one["score"] == pytest.approx(logprob + 0.5 * lm_logprob + 30.0 * length, abs=1e-4)
        scores = [one["score"] for one in row or []]
        assert scores == sorted(scores, reverse=True)
    assert [one["text"] for one in rows[0]] != [text for text, _, _ in ROWS[0]]


def test_without_weights_the_order_stays():
    found = RerankWork().build("cpu").process(table_of(), np.arange(4)).columns["hypotheses"].to_pylist()
    assert [one["text"] for one in found[0]] == [text for text, _, _ in ROWS[0]]
    assert found[0][0]["lm_logprob"] is None


def test_weights_are_found_that_put_the_best_first():
    random = np.random.default_rng(0)
    rows, count = 200, 4
    quality = random.random(rows * count)
    lm_logprob = random.normal(size=rows * count)
    logprob = quality - 0.4 * lm_logprob  # so that the true weight is 0.4
    starts = np.arange(rows + 1) * count
    ones = np.ones(rows * count, dtype=np.int64)
    grid = np.round(np.arange(0, 1.01, 0.1), 1)
    found = tune(logprob, lm_logprob, ones, starts, quality, lm_weights=grid, length_weights=np.array([0.0, 1.0]))
    assert (found.lm_weight, found.length_weight) == (0.4, 0.0)
    assert found.after == pytest.approx(found.best)
    assert found.before < found.after
    empty = features_of([[], []], None)
    assert empty.scores(1.0, 1.0).shape == (0,)


def test_what_is_no_hypothesis_or_no_language_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="lacks tokens, logprob, finish_reason"):
        read_hypotheses(pa.table({"hypotheses": [[{"text": "a"}]]}))
    with pytest.raises(DataError, match="lacks text"):
        read_hypotheses(pa.table({"hypotheses": ["a"]}))
    path = save_tiny_translation(tmp_path / "translation").location.address
    with pytest.raises(ConfigError, match="is no language model"):
        RerankWork(language_model=path).build("cpu")
