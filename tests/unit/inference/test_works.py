"""The three bulk works: what they add to a table, row for row, nulls and all."""

import functools
import math
import operator

import numpy as np
import pyarrow as pa
import pytest

from rnnlm.bulk.rows import RowGuard
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.tokens import tokens_metadata
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.errors import CheckpointError, ConfigError, TokenizerError
from rnnlm.inference.generate import Generator
from rnnlm.inference.generate_work import GenerateWork
from rnnlm.inference.score import Scorer
from rnnlm.inference.score_work import ScoreWork
from rnnlm.inference.tokenize_work import TokenizeWork
from rnnlm.storage import open_location
from tests.corpora import save_tiny, tiny_task

TEXTS = ["the cat sat", None, "", "dog", None, "a strange word"]
PRESENT = [text for text in TEXTS if text is not None]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("works") / "c").location.path)


@pytest.fixture
def table():
    return pa.table({"id": range(len(TEXTS)), "text": pa.array(TEXTS)})


def processed(work, table, first_row=0):
    """New columns by name, checked against what the work announces."""
    result = work.build("cpu").process(table, first_row + np.arange(table.num_rows))
    for field in work.new_fields():
        assert result.columns[field.name].type == field.type
        assert len(result.columns[field.name]) == table.num_rows
    errors = result.columns["error"].to_pylist()
    assert [error is not None for error in errors] == [text is None for text in TEXTS]
    assert errors[1] == "null_text: the text is null"
    return {name: column.to_pylist() for name, column in result.columns.items()}, result.num_tokens


def test_scores_stand_beside_their_texts(path, table):
    columns, num_tokens = processed(ScoreWork(checkpoint=path, token_logprobs=True), table)
    expected = Scorer(load_checkpoint(path)).score_texts(PRESENT, keep_tokens=True)
    rows = [row for row, text in enumerate(TEXTS) if text is not None]
    assert [columns["logprob"][row] for row in rows] == expected.logprob.tolist()
    assert [columns["num_tokens"][row] for row in rows] == expected.num_tokens.tolist()
    assert [columns["token_logprobs"][row] for row in rows] == [values.tolist() for values in expected.token_logprobs]
    assert [columns["logprob"][row] for row in (1, 4)] == [None, None]
    assert num_tokens == expected.num_tokens.sum()
    for row in rows:
        size = len(TEXTS[row].encode())
        wanted = None if size == 0 else pytest.approx(-columns["logprob"][row] / math.log(2) / size)
        assert columns["bits_per_byte"][row] == wanted


def test_a_score_that_is_not_finite_is_an_error_of_its_row(path, table, monkeypatch):
    whole = Scorer.score_texts

    def broken(self, texts, **options):
        scores = whole(self, texts, **options)
        scores.logprob[0] = np.nan
        return scores

    monkeypatch.setattr(Scorer, "score_texts", broken)
    work = ScoreWork(checkpoint=path, token_logprobs=True)
    columns = work.build("cpu").process(table, np.arange(table.num_rows)).columns
    assert columns["error"].to_pylist()[0] == "non_finite: the log-probability is not a finite number"
    assert all(columns[name].to_pylist()[0] is None for name in ("logprob", "num_tokens", "token_logprobs"))
    assert columns["error"].null_count == 3


def test_a_table_of_nulls_is_scored(path):
    table = pa.table({"text": pa.nulls(3, pa.string())})
    columns = (
        ScoreWork(checkpoint=path, token_logprobs=True).build("cpu").process(table, np.arange(table.num_rows)).columns
    )
    assert columns["logprob"].null_count == columns["token_logprobs"].null_count == 3


def test_continuations_stand_beside_their_prompts(path, table):
    work = GenerateWork(checkpoint=path, decoding=SamplingConfig(max_tokens=6), num_hypotheses=3, seed=4)
    columns, num_tokens = processed(work, table, first_row=10)
    found = columns["hypotheses"]
    assert [one if one is None else len(one) for one in found] == [3, None, 3, 3, None, 3]
    assert num_tokens == sum(len(h["tokens"]) for one in found if one for h in one)
    generator = Generator(load_checkpoint(path))
    # The random numbers are those of the row of the corpus and the number of the hypothesis.
    drawn = generator.generate(["dog"] * 3, work.decoding, seed=4, row_ids=[13 * 3, 13 * 3 + 1, 13 * 3 + 2])
    again = [one for (one,) in drawn]
    assert [h["tokens"] for h in found[3]] == [h.tokens for h in again]
    assert [h["text"] for h in found[3]] == [generator.continuation("dog", h.tokens) for h in again]
    assert len({tuple(h["tokens"]) for h in found[3]}) > 1


def test_rules_that_no_text_can_keep_are_refused_before_the_work_begins(path):
    with pytest.raises(ConfigError, match=r"decoding.pattern: no text of the model's tokens is allowed"):
        GenerateWork(checkpoint=path, decoding=GreedyConfig(pattern="[0-9]+")).check_model()
    with pytest.raises(ValueError, match="greedy decoding finds 1 of each prompt at the most, not 2"):
        GenerateWork(checkpoint=path, decoding=GreedyConfig(), num_hypotheses=2)


def test_rules_that_leave_nothing_to_a_row_make_it_an_error_row(path, table):
    decoding = GreedyConfig(allowed=["dog"], min_tokens=2)
    work = GenerateWork(checkpoint=path, decoding=decoding)
    columns = RowGuard(work.build("cpu"), work.new_fields()).process(table, np.arange(table.num_rows)).columns
    errors = pa.chunked_array([columns["error"]]).to_pylist()
    assert all(error.startswith(("null_text", "failed: DataError: the rules of decoding leave")) for error in errors)


def test_a_changed_file_of_allowed_texts_is_another_run(path, tmp_path):
    def identity():
        decoding = GreedyConfig(allowed=str(tmp_path / "allowed.txt"))
        return GenerateWork(checkpoint=path, decoding=decoding).identity()

    (tmp_path / "allowed.txt").write_text("dog\n")
    before = identity()
    assert identity() == before
    (tmp_path / "allowed.txt").write_text("cat\n")
    assert identity() != before


def test_a_shard_may_be_cut_anywhere(path, table):
    work = GenerateWork(checkpoint=path, decoding=SamplingConfig(max_tokens=6), num_hypotheses=2)
    processor = work.build("cpu")
    whole = processor.process(table, np.arange(table.num_rows)).columns["hypotheses"].to_pylist()
    parts = [
        processor.process(table.slice(start, 2), np.arange(start, start + 2)).columns["hypotheses"].to_pylist()
        for start in (0, 2, 4)
    ]
    tokens = [
        [None if h is None else [x["tokens"] for x in h] for h in rows]
        for rows in (whole, functools.reduce(operator.iadd, parts, []))
    ]
    assert tokens[0] == tokens[1]


def test_tokens_and_bytes_of_texts(tmp_path, table, tokenizer):
    tokenizer.save(open_location(str(tmp_path)))
    work = TokenizeWork(tokenizer=str(tmp_path), keep_columns=["id"])
    columns, num_tokens = processed(work, table)
    encoded = iter(tokenizer.encode(PRESENT))
    assert columns["tokens"] == [None if text is None else next(encoded).tolist() for text in TEXTS]
    assert columns["num_bytes"] == [None if text is None else len(text) for text in TEXTS]
    assert num_tokens == sum(len(text.split()) for text in PRESENT)
    schema = work.output_schema(table.schema, work.kept_columns(table.column_names))
    assert schema.names == ["id", "tokens", "num_bytes", "error"]
    assert schema.metadata.items() >= tokens_metadata(tokenizer).items()
    with pytest.raises(ConfigError, match="no column 'nothing'"):
        TokenizeWork(tokenizer=str(tmp_path), keep_columns=["nothing"]).kept_columns(table.column_names)


def test_identity_names_what_decides_the_output(path, tmp_path):
    def identity(**changed):
        return GenerateWork(**{"checkpoint": path, "decoding": SamplingConfig(), **changed}).identity()

    assert identity() == identity()
    other = str(save_tiny(tmp_path / "other", tiny_task("gru")).location.path)
    for changed in [
        {"checkpoint": other},
        {"decoding": SamplingConfig(max_tokens=5)},
        {"decoding": GreedyConfig()},
        {"num_hypotheses": 2},
        {"seed": 2},
        {"text_column": "prompt"},
    ]:
        assert identity(**changed) != identity(), changed


def test_what_is_missing_is_said_before_the_work_begins(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        ScoreWork(checkpoint=str(tmp_path / "nowhere")).cost()
    with pytest.raises(TokenizerError, match="there is no tokenizer"):
        TokenizeWork(tokenizer=str(tmp_path)).new_fields()
