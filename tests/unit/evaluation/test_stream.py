"""The figures of a stream: by hand for two tokenizers over one text, and equal where they say the same thing."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.tokenizers.bytes import BytesTokenizer
from rnnlm.data.tokens import TokenTable, tokens_array, tokens_metadata
from rnnlm.evaluation.stream import evaluate_stream, stream_totals
from tests.corpora import save_tiny, tiny_task, words_tokenizer
from tests.reference import logprobs_naively, stream_positions

ROUNDING = 1e-5  # float32 weights, steps added up in another order
TEXTS = ["the cat sat on a mat .", "a dog", "", "the z\u00fc cat ran"]  # z\u00fc is <unk> to words
WORDS, ENDS, CHARS, BYTES = 7 + 2 + 0 + 4, 4, 22 + 5 + 0 + 14, 22 + 5 + 0 + 15


def write_tokens(folder, tokenizer, texts):
    documents = tokenizer.encode(texts)
    num_bytes = pa.array([len(text.encode()) for text in texts], pa.int64())
    array = tokens_array(documents, tokenizer.vocab_size)
    schema = pa.schema([("tokens", array.type), ("num_bytes", pa.int64())], metadata=tokens_metadata(tokenizer))
    folder.mkdir()
    pq.write_table(pa.table([array, num_bytes], schema=schema), folder / "part-000000.parquet")
    return documents, str(folder)


def measured(tmp_path, tokenizer, texts=TEXTS):
    """What is reported, and the nll by the naive forward pass."""
    checkpoint = save_tiny(tmp_path / "model", tiny_task(), tokenizer)
    documents, path = write_tokens(tmp_path / "tokens", tokenizer, texts)
    inputs, targets = stream_positions(documents, tokenizer.bos_id, tokenizer.eos_id)
    nll = -logprobs_naively(checkpoint.model, inputs, targets).sum()
    return evaluate_stream(checkpoint, path).figures(), nll


def test_a_model_of_bytes_by_hand(tmp_path):
    found, nll = measured(tmp_path, BytesTokenizer())
    assert (found["documents"], found["targets"]) == (ENDS, BYTES + ENDS)
    assert (found["words"], found["num_bytes"], found["chars"]) == (WORDS, BYTES, CHARS)
    assert found["nll"] == pytest.approx(nll / (BYTES + ENDS), rel=ROUNDING)
    assert found["perplexity"] == pytest.approx(math.exp(nll / (BYTES + ENDS)), rel=ROUNDING)
    assert found["word_perplexity"] == pytest.approx(math.exp(nll / (WORDS + ENDS)), rel=ROUNDING)
    assert found["bits_per_byte"] == pytest.approx(nll / math.log(2) / BYTES, rel=ROUNDING)
    assert found["bits_per_char"] == pytest.approx(nll / math.log(2) / CHARS, rel=ROUNDING)


def test_a_model_of_words_by_hand(tmp_path):
    found, nll = measured(tmp_path, words_tokenizer())
    assert found["targets"] == found["words"] + found["documents"] == WORDS + ENDS
    assert (
        found["word_perplexity"] == found["perplexity"] == pytest.approx(math.exp(nll / (WORDS + ENDS)), rel=ROUNDING)
    )
    assert found["bits_per_byte"] == pytest.approx(nll / math.log(2) / BYTES, rel=ROUNDING)
    assert found["bits_per_char"] is None  # <unk> is not what stood there
    known = measured(tmp_path / "known", words_tokenizer(), TEXTS[:3])[0]
    assert known["chars"] == 22 + 5
    assert known["bits_per_char"] == known["bits_per_byte"]  # ASCII


def test_words_are_those_of_the_text_whatever_the_tokenizer_makes_of_them():
    text = " two\tblanks  and\u2028one line\n"
    for tokenizer in (BytesTokenizer(), words_tokenizer()):
        documents = tokenizer.encode([text, ""])
        table = TokenTable.from_documents(documents, num_bytes=len(text.encode()))
        targets = sum(map(len, documents)) + 2
        totals = stream_totals(table, tokenizer, 12.0, targets)
        assert totals.words == 5
        assert totals.word_perplexity == pytest.approx(np.exp(12.0 / (5 + 2)), rel=ROUNDING)
