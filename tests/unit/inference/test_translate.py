"""Writing targets and scoring pairs with a checkpoint."""

import dataclasses
import functools

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnlm.decoding import base, waiting
from rnnlm.decoding.base import decode
from rnnlm.decoding.beam import BeamConfig
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.errors import ConfigError
from rnnlm.inference.generate_work import GenerateWork
from rnnlm.inference.score_work import ScoreWork
from rnnlm.inference.translate import Translator
from rnnlm.nn.attending.none import NoAttentionConfig
from tests.corpora import reversals, save_tiny, save_tiny_translation, tiny_translation

SAME = 1e-4  # nats a row
PAIRS = reversals(40, longest=9, seed=5)
SOURCES, TARGETS = (list(side) for side in zip(*PAIRS, strict=True))
KINDS = {
    "plain": {},
    "fed": {"input_feeding": True},
    "copies": {"copies": True},
    "none": {"attention": NoAttentionConfig()},
}


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, tmp_path_factory):
    torch.manual_seed(99)
    return save_tiny_translation(tmp_path_factory.mktemp("translation"), tiny_translation(**KINDS[request.param]))


@pytest.mark.parametrize(
    "strategy", [GreedyConfig(max_tokens=12), SamplingConfig(max_tokens=12), BeamConfig(max_tokens=12, width=3)]
)
def test_what_is_written_is_scored_as_it_was_written(checkpoint, strategy):
    translator = Translator(checkpoint)
    found = [hypotheses[0] for hypotheses in translator.generate(SOURCES, strategy)]
    encoded = translator.tokenizer.source.encode(SOURCES)
    scores = translator.score_tokens(encoded, [np.array(one.tokens, dtype=np.int32) for one in found], keep_tokens=True)
    for row, one in enumerate(found):
        expected = scores.token_logprobs[row].astype(np.float64)
        whole = expected.sum() if one.finish_reason == "end" else expected[:-1].sum()
        assert one.logprob == pytest.approx(whole, abs=SAME)
    assert {one.finish_reason for one in found} <= {"end", "length"}


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_beams_look_at_their_own_source_whoever_stands_beside(checkpoint, lanes, monkeypatch):
    translator = Translator(checkpoint)
    strategy = BeamConfig(max_tokens=8, width=4)
    alone = [translator.generate([source], strategy, num_hypotheses=4)[0] for source in SOURCES[:20]]
    monkeypatch.setattr(base, "decode", functools.partial(decode, lanes=lanes))
    monkeypatch.setattr(waiting, "READ_PROMPTS", 3)  # contexts of many widths meet
    for mine, other in zip(translator.generate(SOURCES[:20], strategy, num_hypotheses=4), alone, strict=True):
        assert [one.tokens for one in mine] == [one.tokens for one in other]
        assert [one.logprob for one in mine] == pytest.approx([one.logprob for one in other], abs=SAME)


def test_a_row_is_written_and_scored_alone_as_among_others(checkpoint):
    translator = Translator(checkpoint)
    together = translator.generate(SOURCES, GreedyConfig(max_tokens=12))
    scores = translator.score_pairs(SOURCES, TARGETS)
    for row in range(0, 40, 5):
        (alone,) = translator.generate([SOURCES[row]], GreedyConfig(max_tokens=12))
        assert alone[0].tokens == together[row][0].tokens
        assert alone[0].logprob == pytest.approx(together[row][0].logprob, abs=SAME)
        one = translator.score_pairs([SOURCES[row]], [TARGETS[row]])
        assert one.logprob[0] == pytest.approx(scores.logprob[row], abs=SAME)
    assert scores.num_tokens.tolist() == [len(target.split()) + 1 for target in TARGETS]
    assert translator.score_pairs([], []).logprob.shape == (0,)
    assert translator.generate([], GreedyConfig()) == []


def test_a_target_goes_on_from_its_prefix(checkpoint):
    translator = Translator(checkpoint)
    greedy = GreedyConfig(max_tokens=12)
    free = [found[0] for found in translator.generate(SOURCES, greedy)]
    halves = [found.tokens[: len(found.tokens) // 2] for found in free]
    prefixes = [translator.tokenizer.decode(half) for half in halves]
    for row, found in enumerate(translator.generate(SOURCES, greedy, prefixes=prefixes)):
        rest = free[row].tokens[len(halves[row]) :]
        assert found[0].tokens[: len(rest)] == rest
        expected = " ".join([prefixes[row], translator.tokenizer.decode(found[0].tokens)]).strip()
        assert translator.continuation(prefixes[row], found[0].tokens) == expected


def test_alignments_say_where_the_model_looked(checkpoint):
    translator = Translator(checkpoint)
    sources, targets = translator.tokenizer.source.encode(SOURCES), translator.tokenizer.encode(TARGETS)
    found = translator.alignments(sources, targets)
    if translator._model.attention is None:
        assert found is None
        return
    for row, weights in enumerate(found):
        assert weights.shape == (len(targets[row]) + 1, len(sources[row]) + 1)
        np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-5)


def test_pairs_are_scored_as_work_over_a_table(checkpoint):
    path = checkpoint.location.address
    work = ScoreWork(checkpoint=path, text_column="a", target_column="b", token_logprobs=True)
    table = pa.table({"a": ["the cat", None, " ", "ran on"], "b": ["cat the", "a", "a", ""]})
    found = work.build("cpu").process(table, np.arange(4)).columns
    expected = Translator(checkpoint).score_pairs(["the cat", "ran on"], ["cat the", ""])
    logprobs = found["logprob"].to_pylist()
    assert [logprobs[0], logprobs[3]] == pytest.approx(expected.logprob.tolist(), abs=SAME)
    assert logprobs[1:3] == [None, None]
    assert [error and error.partition(":")[0] for error in found["error"].to_pylist()] == [
        None,
        "null_text",
        "empty_source",
        None,
    ]
    assert found["num_tokens"].to_pylist() == [3, None, None, 1]
    assert found["bits_per_byte"].to_pylist()[3] is None
    assert len(found["token_logprobs"].to_pylist()[0]) == 3
    assert work.identity()["target_column"] == "b"
    with pytest.raises(ConfigError, match="name the column of targets"):
        ScoreWork(checkpoint=path).check_model()
    with pytest.raises(ConfigError, match="these are for language models"):
        ScoreWork(checkpoint=path, target_column="b", ensemble=[path]).check_model()


def test_a_language_model_has_no_targets(tmp_path):
    path = save_tiny(tmp_path / "model").location.address
    with pytest.raises(ConfigError, match="is a language model"):
        ScoreWork(checkpoint=path, target_column="b").check_model()


def test_sources_are_written_about_as_work_over_a_table(checkpoint):
    greedy = GreedyConfig(max_tokens=6)
    attends = checkpoint.model.attention is not None
    work = GenerateWork(
        checkpoint=checkpoint.location.address,
        decoding=greedy,
        text_column="a",
        prefix_column="begin",
        max_source_tokens=3,
        alignment=attends,
    )
    table = pa.table({"a": ["the cat", None, "  ", "a dog ran on"], "begin": [None, "a", "a", "the"]})
    found = work.build("cpu").process(table, np.arange(4)).columns
    assert set(found) == {field.name for field in work.new_fields()}
    codes = [error and error.partition(":")[0] for error in found["error"].to_pylist()]
    assert codes == [None, "null_text", "empty_source", "long_source"]
    expected = Translator(checkpoint).generate(["the cat"], greedy)[0][0]
    hypotheses = found["hypotheses"].to_pylist()
    assert hypotheses[1:] == [None, None, None]
    assert hypotheses[0][0]["tokens"] == expected.tokens
    if attends:
        assert found["source_pieces"].to_pylist()[0] == ["the", "cat", "</s>"]
        assert len(found["alignment"].to_pylist()[0]) == len(found["target_pieces"].to_pylist()[0])
        assert found["alignment"].to_pylist()[1:] == [None, None, None]
    cut = dataclasses.replace(work, truncate=True)
    found = cut.build("cpu").process(table, np.arange(4)).columns
    assert found["truncated"].to_pylist() == [False, False, False, True]
    assert found["error"].to_pylist()[3] is None
    whole = Translator(checkpoint).generate(["a dog ran"], greedy, prefixes=["the"])[0][0]
    assert found["hypotheses"].to_pylist()[3][0]["tokens"] == whole.tokens
    assert found["hypotheses"].to_pylist()[3][0]["text"].split()[0] == "the"
    assert cut.identity() != work.identity()


def test_what_a_model_has_not_is_refused(tmp_path):
    language_model = save_tiny(tmp_path / "model").location.address
    blind = save_tiny_translation(tmp_path / "blind", tiny_translation(attention=NoAttentionConfig())).location.address
    greedy = GreedyConfig()
    for fields, problem in [
        ({"checkpoint": language_model, "prefix_column": "a"}, "prefix_column: the checkpoint is a language model"),
        ({"checkpoint": blind, "alignment": True}, "has no attention"),
        ({"checkpoint": blind, "truncate": True}, "say from where on"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            GenerateWork(decoding=greedy, **fields).check_model()
