"""Packed scoring against the naive truth: each document alone through torch's modules and a log_softmax."""

import numpy as np
import pytest
import torch

from rnnlm.inference import packed
from rnnlm.inference.packed import PackedRunner
from rnnlm.inference.score import Scorer
from tests.corpora import CELLS, random_documents, save_tiny, sentences, tiny_task
from tests.reference import score_naively

ROW_NATS = 1e-4  # what score.py promises for a row: float32 products of other shapes round otherwise
TOKEN_NATS = 2e-5  # the same for one token

CASES = [(cell, layers, tied) for cell in CELLS for layers in (1, 2) for tied in (True, False)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{'tied' if case[2] else 'untied'}")
def checkpoint(request, tmp_path_factory):
    cell, num_layers, tied = request.param
    torch.manual_seed(7)
    task = tiny_task(cell, num_layers=num_layers, tied=tied, dropout=0.5, layer_dropout=0.5)
    return save_tiny(tmp_path_factory.mktemp("checkpoint") / "c", task)


@pytest.fixture
def lstm(tmp_path):
    return save_tiny(tmp_path / "lstm", tiny_task(num_layers=2))


def documents_of(lengths, checkpoint, seed=0):
    return random_documents(lengths, checkpoint.tokenizer.vocab_size, seed=seed)


def naively(checkpoint, documents):
    tokenizer = checkpoint.tokenizer
    return [score_naively(checkpoint.model, d, tokenizer.bos_id, tokenizer.eos_id) for d in documents]


MIXED = [0, 1, 2, 600, 3, 0, 150, 40, 7, 7, 41, 0, 1]


def test_scores_are_those_of_the_naive_oracle(checkpoint):
    documents = documents_of(MIXED, checkpoint)
    scores = Scorer(checkpoint).score_tokens(documents, keep_tokens=True)
    expected = naively(checkpoint, documents)
    assert scores.num_tokens.tolist() == [length + 1 for length in MIXED]
    np.testing.assert_allclose(scores.logprob, [one.sum() for one in expected], rtol=0, atol=ROW_NATS)
    for found, wanted in zip(scores.token_logprobs, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOKEN_NATS)


def test_many_rows_make_several_blocks(lstm):
    lengths = np.random.default_rng(1).integers(0, 12, size=600).tolist()
    documents = documents_of(lengths, lstm)
    found = Scorer(lstm).score_tokens(documents).logprob
    np.testing.assert_allclose(found, [one.sum() for one in naively(lstm, documents)], rtol=0, atol=ROW_NATS)


def test_tokens_add_up_to_the_row_in_float64(checkpoint):
    scores = Scorer(checkpoint).score_tokens(documents_of(MIXED, checkpoint), keep_tokens=True)
    assert scores.logprob.dtype == np.float64
    # To the last bit: the float32 values are added in their order, in float64.
    assert scores.logprob.tolist() == [sum(map(float, values)) for values in scores.token_logprobs]
    plain = Scorer(checkpoint).score_tokens(documents_of(MIXED, checkpoint))
    assert plain.token_logprobs is None
    assert plain.logprob.tolist() == scores.logprob.tolist()


def test_a_row_does_not_depend_on_its_neighbours_or_its_place(lstm):
    lengths = np.random.default_rng(2).integers(0, 30, size=300).tolist()
    documents = documents_of(lengths, lstm)
    scorer = Scorer(lstm)
    together = scorer.score_tokens(documents).logprob
    alone = [scorer.score_tokens([document]).logprob[0] for document in documents[:40]]
    np.testing.assert_allclose(together[:40], alone, rtol=0, atol=ROW_NATS)
    order = np.random.default_rng(3).permutation(300)
    shuffled = scorer.score_tokens([documents[row] for row in order]).logprob
    np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=ROW_NATS)
    with_others = scorer.score_tokens([*documents[:40], *documents_of([500] * 3, lstm, seed=9)]).logprob[:40]
    np.testing.assert_allclose(with_others, together[:40], rtol=0, atol=ROW_NATS)


@pytest.mark.parametrize("positions", [1, 2, 5, 64])
@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_blocks_and_chunks_change_nothing(lstm, monkeypatch, positions, rows):
    documents = documents_of([0, 5, 9, 2, 9, 0, 13, 1], lstm)
    expected = Scorer(lstm).score_tokens(documents, keep_tokens=True)
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", positions)
    monkeypatch.setattr(packed, "BLOCK_ROWS", rows)
    found = Scorer(lstm).score_tokens(documents, keep_tokens=True)
    np.testing.assert_allclose(found.logprob, expected.logprob, rtol=0, atol=ROW_NATS)
    for one, other in zip(found.token_logprobs, expected.token_logprobs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=TOKEN_NATS)


def test_every_position_is_run_once_and_none_is_padded(lstm, monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", 7)
    monkeypatch.setattr(packed, "BLOCK_ROWS", 3)
    lengths = [4, 0, 9, 9, 1, 3, 0]
    documents = documents_of(lengths, lstm)
    runner = PackedRunner(lstm.model, bos_id=lstm.tokenizer.bos_id, eos_id=lstm.tokenizer.eos_id)
    with torch.inference_mode():
        chunks = [chunk for block in runner.blocks(documents) for chunk in runner.run(documents, block)]
    seen = sorted((row, time) for chunk in chunks for row, time in zip(chunk.rows, chunk.times, strict=True))
    assert seen == [(row, time) for row, length in enumerate(lengths) for time in range(length + 1)]
    assert max(len(chunk.rows) for chunk in chunks) <= 7
    targets = {(r, t): int(w) for c in chunks for r, t, w in zip(c.rows, c.times, c.targets, strict=True)}
    framed = [[*document.tolist(), lstm.tokenizer.eos_id] for document in documents]
    assert all(targets[row, time] == framed[row][time] for row, time in seen)


def test_the_state_after_the_last_input_is_that_of_the_plain_model(checkpoint, monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", 5)
    monkeypatch.setattr(packed, "BLOCK_ROWS", 4)
    documents = documents_of([3, 0, 7, 7, 1, 12], checkpoint)
    model, bos_id = checkpoint.model, checkpoint.tokenizer.bos_id
    runner = PackedRunner(model, bos_id=bos_id, eos_id=checkpoint.tokenizer.eos_id)
    with torch.inference_mode():
        final = model.initial_state(len(documents))
        for block in runner.blocks(documents):
            for _ in runner.run(documents, block, final):
                pass
        for row, document in enumerate(documents):
            _, expected = model(torch.tensor([[bos_id, *document.tolist()]]), model.initial_state(1))
            for one, other in zip(final, expected, strict=True):
                torch.testing.assert_close(one[row], other[0], rtol=0, atol=TOKEN_NATS)


def test_the_table_of_first_products_changes_nothing(checkpoint, monkeypatch):
    documents = documents_of(MIXED, checkpoint)
    with_table = Scorer(checkpoint)
    assert with_table._runner._table is not None
    monkeypatch.setattr(packed, "TABLE_BYTES", 0)
    without = Scorer(checkpoint)
    assert without._runner._table is None
    np.testing.assert_allclose(
        without.score_tokens(documents).logprob, with_table.score_tokens(documents).logprob, rtol=0, atol=ROW_NATS
    )


def test_scoring_twice_gives_the_same_bits(checkpoint):
    documents = documents_of(MIXED, checkpoint)
    first, second = (Scorer(checkpoint).score_tokens(documents).logprob for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_texts_are_scored_as_their_tokens(tiny_checkpoint):
    texts = ["", *sentences(20), "a word nobody knows"]
    scorer = Scorer(tiny_checkpoint)
    by_text = scorer.score_texts(texts)
    by_tokens = scorer.score_tokens(tiny_checkpoint.tokenizer.encode(texts))
    assert by_text.logprob.tolist() == by_tokens.logprob.tolist()
    assert by_text.num_tokens.tolist() == [len(text.split()) + 1 for text in texts]


def test_no_documents_no_scores(tiny_checkpoint):
    scores = Scorer(tiny_checkpoint).score_tokens([])
    assert (scores.logprob.shape, scores.num_tokens.shape) == ((0,), (0,))


def test_no_documents_no_token_scores(tiny_checkpoint):
    assert Scorer(tiny_checkpoint).score_tokens([], keep_tokens=True).token_logprobs == []


def test_the_probabilities_of_everything_short_add_up_to_less_than_one(tiny_checkpoint):
    # All texts of up to two words, and no other text has any of their probability.
    words = [w for w in range(tiny_checkpoint.tokenizer.vocab_size) if w != tiny_checkpoint.tokenizer.eos_id]
    documents = [[], *([w] for w in words), *([v, w] for v in words for w in words)]
    scores = Scorer(tiny_checkpoint).score_tokens([np.array(d, dtype=np.int32) for d in documents], keep_tokens=True)
    ends = np.exp(scores.logprob)
    goes_on = sum(np.exp(float(values[0]) + float(values[1])) for values in scores.token_logprobs[1 + len(words) :])
    # Ended with nothing, ended after a word, or went on to a second word.
    assert ends[: 1 + len(words)].sum() + goes_on == pytest.approx(1, abs=1e-5)
