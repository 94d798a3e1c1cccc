"""Pairs: two tokenizers as one, tables with two columns of tokens, and batches that hold every pair once an epoch."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.pair_stream import PairReader, PairStream
from rnnlm.data.pairs import PairTable, read_pair_table
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import ConfigError, DataError, TokenizerError
from rnnlm.inference.tokenize_work import TokenizeWork
from rnnlm.storage import open_location
from rnnlm.tasks.batching import PairsConfig
from tests.corpora import TEXTS, pair_table, pair_tokenizer, reversals, tiny_translation, words_tokenizer

PAIRS = reversals(60)


def stream_of(pairs=PAIRS, *, tokens=24, **options):
    def open_reader(table):
        return PairReader(table, source_eos=1, bos_id=1, eos_id=1)

    return PairStream(pair_table(pairs), open_reader, **{"tokens": tokens, "max_rows": None, "seed": 3, **options})


def pairs_of(batch):
    """Source and target of each row that is not empty, without what is padding."""
    return [
        (tuple(source[: length - 1].tolist()), tuple(target[mask][:-1].tolist()))
        for source, length, target, mask in zip(batch.source, batch.lengths, batch.targets, batch.mask, strict=True)
        if mask.any()
    ]


def epoch_of(stream):
    first = stream.epoch
    found = []
    while True:
        batch = stream.next()
        if stream.epoch > first:
            return found, batch
        found.append(batch)


def test_a_pair_of_tokenizers_comes_back_from_disk(tmp_path):
    source, target = CharsConfig().train(TEXTS), words_tokenizer()
    pair = PairTokenizer(source, target)
    pair.save(open_location(str(tmp_path)))
    found = load_tokenizer(open_location(str(tmp_path)))
    assert isinstance(found, PairTokenizer)
    assert found.fingerprint == pair.fingerprint
    assert found.source.fingerprint == source.fingerprint
    assert found.decode(found.encode(["the cat"])[0].tolist()) == "the cat"
    assert not found.is_joint
    assert PairTokenizer(target, words_tokenizer()).is_joint
    assert pair.fingerprint != PairTokenizer(target, source).fingerprint
    (tmp_path / "tokenizer.model").write_bytes(pair.model_bytes()[:-3])
    with pytest.raises(TokenizerError, match="cut short"):
        load_tokenizer(open_location(str(tmp_path)))


def test_a_table_of_pairs_is_written_and_read(tmp_path):
    tokenizer = pair_tokenizer()
    tokenizer.save(open_location(str(tmp_path / "tokenizer")))
    work = TokenizeWork(tokenizer=str(tmp_path / "tokenizer"), text_column="a", target_column="b")
    table = pa.table({"a": ["the cat", None, "  ", "a dog", "ran"], "b": ["cat the", "x", "cat", "", "ran on"]})
    found = work.build("cpu").process(table, np.arange(5))
    errors = found.columns["error"].to_pylist()
    assert [error and error.partition(":")[0] for error in errors] == [
        None,
        "null_text",
        "empty_source",
        "empty_target",
        None,
    ]
    assert found.columns["tokens"].is_null().to_pylist() == [False, True, True, True, False]
    assert found.columns["target_tokens"].is_null().to_pylist() == [False, True, True, True, False]
    assert found.num_tokens == 7
    schema = work.output_schema(table.schema, [])
    pq.write_table(pa.table(found.columns).cast(schema), tmp_path / "pairs.parquet")
    read = read_pair_table(str(tmp_path / "pairs.parquet"), tokenizer)
    assert read.num_pairs == 2
    assert read.fingerprint == pair_table([("the cat", "cat the"), ("ran", "ran on")]).fingerprint
    single = TokenizeWork(tokenizer=str(tmp_path / "tokenizer"), text_column="a")
    with pytest.raises(ConfigError, match="name the column of the targets"):
        single.new_fields()
    words_tokenizer().save(open_location(str(tmp_path / "words")))
    with pytest.raises(ConfigError, match="train one for pairs"):
        TokenizeWork(tokenizer=str(tmp_path / "words"), text_column="a", target_column="b").new_fields()
    plain = pa.table(found.columns).drop_columns(["target_tokens"])
    pq.write_table(plain.replace_schema_metadata(schema.metadata), tmp_path / "plain.parquet")
    with pytest.raises(DataError, match="there is no column 'target_tokens'"):
        read_pair_table(str(tmp_path / "plain.parquet"), tokenizer)


def test_pairs_that_are_too_long_or_too_unlike_are_left_out_and_counted():
    table = pair_table([("a a a", "a"), ("a", "a a"), ("a a a a", "a a"), ("a", "a")])
    kept = table.within(max_source=3, max_target=None, max_ratio=2.0)
    assert kept.num_pairs == 2
    assert kept.left_out == {"a source of more than 3 tokens": 1, "sides that differ more than 2.0 times": 1}
    assert "1 with a source of more than 3 tokens" in str(kept)
    assert np.diff(kept.target.offsets).tolist() == [2, 1]
    assert table.within(max_source=None, max_target=None, max_ratio=None).fingerprint == table.fingerprint


def test_every_pair_comes_once_an_epoch_within_the_budget():
    expected = Counter(pairs_of_table(pair_table(PAIRS)))
    stream = stream_of()
    batches, _ = epoch_of(stream)
    assert Counter(pair for batch in batches for pair in pairs_of(batch)) == expected
    assert all(batch.targets.numel() <= 24 for batch in batches)
    assert len(batches) == stream.steps_per_epoch
    assert all(batch.inputs[:, 0].eq(1).all() for batch in batches)
    assert all((batch.inputs[:, 1:] == batch.targets[:, :-1]).all() for batch in batches)
    assert all(len(batch.source) <= 2 for batch in epoch_of(stream_of(max_rows=2))[0])


def pairs_of_table(table):
    def documents(side):
        return [tuple(side.tokens[a:b].tolist()) for a, b in zip(side.offsets, side.offsets[1:], strict=False)]

    return list(zip(documents(table.source), documents(table.target), strict=True))


def test_a_stream_goes_on_where_it_was():
    stream, other = stream_of(), stream_of()
    for _ in range(stream.steps_per_epoch + 3):
        stream.next()
    other.restore(stream.state())
    for _ in range(5):
        assert pairs_of(stream.next()) == pairs_of(other.next())
    assert [pairs_of(batch) for batch in epoch_of(stream_of())[0]] != [
        pairs_of(batch) for batch in epoch_of(stream_of(seed=4))[0]
    ]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_out_each_batch(world_size):
    alone = stream_of()
    ranks = [stream_of(rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(alone.steps_per_epoch + 2):
        whole = alone.next()
        parts = [rank.next() for rank in ranks]
        assert Counter(pairs_of(whole)) == Counter(pair for part in parts for pair in pairs_of(part))
        assert sum(int(part.mask.sum()) for part in parts) == int(whole.mask.sum())


def test_subwords_are_cut_anew_in_each_epoch_and_say_the_same():
    tokenizer = SentencePieceConfig(model_type="bpe", vocab_size=400).train(TEXTS)
    pair = PairTokenizer(tokenizer, tokenizer)
    encoded = tokenizer.encode(TEXTS)
    table = PairTable(TokenTable.from_documents(encoded), TokenTable.from_documents(encoded[::-1]), {})
    task = tiny_translation(subword_sampling=0.3)

    def open_one():
        return task.open_stream(table, pair, PairsConfig(tokens=512), seed=1, rank=0, world_size=1)

    def targets_of(batches):
        return [target for batch in batches for _, target in pairs_of(batch)]

    stream = open_one()
    first, _ = epoch_of(stream)
    assert sorted(tokenizer.decode(target) for target in targets_of(first)) == sorted(TEXTS)
    assert Counter(targets_of(first)) != Counter(tuple(one.tolist()) for one in encoded)
    second = open_one()
    second.restore({"epoch": 1, "position": 0})
    assert Counter(targets_of(epoch_of(second)[0])) != Counter(targets_of(first))
    again = open_one()
    assert targets_of(epoch_of(again)[0]) == targets_of(first)
    with pytest.raises(ConfigError, match="cuts a text in one way only"):
        task.open_stream(pair_table(PAIRS), pair_tokenizer(), PairsConfig(), seed=1, rank=0, world_size=1)
