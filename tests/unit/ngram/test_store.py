"""An n-gram model on disk, and the job that makes one."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.schemas import TrainNgramJob
from jobs.train_ngram import train_ngram
from rnnlm.data.tokens import TokenTable, tokens_array, tokens_metadata
from rnnlm.errors import CheckpointError, DataError, EnvironmentFailure, RefusedError
from rnnlm.ngram import NGramConfig, load_ngram, save_ngram, store
from rnnlm.storage import Location, open_location
from tests.corpora import sentences, words_tokenizer

TOKENIZER = words_tokenizer()
TRAIN, HELD_OUT = sentences(60), sentences(20, seed=1)


def write_table(folder, texts):
    array = tokens_array(TOKENIZER.encode(texts), TOKENIZER.vocab_size)
    schema = pa.schema([("tokens", array.type), ("num_bytes", pa.int64())], metadata=tokens_metadata(TOKENIZER))
    num_bytes = pa.array([len(text) for text in texts], pa.int64())
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table([array, num_bytes], schema=schema), folder / "part-000000.parquet")
    return str(folder)


@pytest.fixture
def job(tmp_path):
    TOKENIZER.save(open_location(str(tmp_path / "tokenizer")))
    return {
        "tokens": write_table(tmp_path / "train", TRAIN),
        "valid_tokens": write_table(tmp_path / "valid", HELD_OUT),
        "tokenizer_path": str(tmp_path / "tokenizer"),
        "output": str(tmp_path / "ngram"),
        "order": 3,
    }


@pytest.fixture
def saved(tmp_path):
    model = NGramConfig(order=3).train(TokenTable.from_documents(TOKENIZER.encode(TRAIN)), TOKENIZER)
    folder = open_location(str(tmp_path / "model"))
    save_ngram(folder, model, TOKENIZER, {"documents": len(TRAIN)})
    return model, folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_comes_back_with_every_digit(saved):
    model, folder = saved
    again = load_ngram(folder.uri)
    documents = TOKENIZER.encode(HELD_OUT)
    for one, other in zip(model.logprobs(documents), again.model.logprobs(documents), strict=True):
        assert np.array_equal(one, other)
    assert again.tokenizer.fingerprint == TOKENIZER.fingerprint
    assert again.trained == {"documents": len(TRAIN)}
    assert (again.model.num_ngrams, again.model.discounts) == (model.num_ngrams, model.discounts)


def test_another_model_has_another_fingerprint(saved, tmp_path):
    _, folder = saved
    other = NGramConfig(order=3).train(TokenTable.from_documents(TOKENIZER.encode(HELD_OUT)), TOKENIZER)
    save_ngram(open_location(str(tmp_path / "other")), other, TOKENIZER, {})
    assert load_ngram(folder.uri).fingerprint != load_ngram(str(tmp_path / "other")).fingerprint


def test_a_damaged_or_missing_file_is_named_with_the_cure(saved, tmp_path):
    _, folder = saved
    counts = folder.join("ngram.safetensors")
    content = counts.read_bytes()
    for damaged in (content[:-1], content[:40], b"", content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]):
        counts.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"ngram.safetensors .* is not what was saved"):
            load_ngram(folder.uri)
    counts.delete()
    with pytest.raises(DataError, match="there is no file"):
        load_ngram(folder.uri)
    with pytest.raises(CheckpointError, match=r"there is no n-gram model in .*; make one with python -m jobs"):
        load_ngram(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "checkpoint"}, "is not that of an n-gram model"),
        ({"format_version": 2}, "format version 2, this rnnlm reads 1"),
        ({"tokenizer": "0" * 64}, "was made with tokenizer 000000000000"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(saved, change, message):
    _, folder = saved
    card = folder.join("config.json")
    card.write_json({**card.read_json(), **change})
    with pytest.raises(CheckpointError, match=message):
        load_ngram(folder.uri)


def test_what_a_card_lacks_is_named(saved):
    _, folder = saved
    card = folder.join("config.json")
    card.write_json({name: value for name, value in card.read_json().items() if name not in {"order", "trained"}})
    with pytest.raises(CheckpointError, match=r"config.json lacks order, trained; copy the model again"):
        load_ngram(folder.uri)


# ----- the job


def test_the_job_counts_and_says_how_good_it_is(job, tmp_path, capsys):
    train_ngram(TrainNgramJob(**job))
    said = capsys.readouterr().out
    found = load_ngram(job["output"])
    expected = NGramConfig(order=3).train(TokenTable.from_documents(TOKENIZER.encode(TRAIN)), TOKENIZER)
    nll = -np.concatenate(expected.logprobs(TOKENIZER.encode(HELD_OUT))).mean()
    assert found.model.num_ngrams == expected.num_ngrams
    assert found.trained["valid_nll"] == pytest.approx(nll, rel=1e-12)
    assert f"validation {nll:.4f} nats a target, perplexity {np.exp(nll):.2f}" in said
    assert "the counts of order 1 give no discounts" in said
    assert json.loads((tmp_path / "ngram" / "settings.json").read_text())["order"] == 3


def test_the_same_job_again_writes_the_same_and_another_is_refused(job, tmp_path):
    train_ngram(TrainNgramJob(**job))
    before = contents(tmp_path / "ngram")
    train_ngram(TrainNgramJob(**job))
    assert contents(tmp_path / "ngram") == before
    with pytest.raises(RefusedError, match="order: 3 -> 2"):
        train_ngram(TrainNgramJob(**{**job, "order": 2}))
    with pytest.raises(RefusedError, match="tokens: "):
        train_ngram(TrainNgramJob(**{**job, "tokens": job["valid_tokens"]}))
    assert contents(tmp_path / "ngram") == before


def test_a_foreign_folder_is_left_alone(job, tmp_path):
    (tmp_path / "ngram").mkdir()
    (tmp_path / "ngram" / "thesis.txt").write_text("years of work")
    with pytest.raises(RefusedError, match=r"holds thesis\.txt and no config\.json"):
        train_ngram(TrainNgramJob(**job))
    (tmp_path / "ngram" / "config.json").write_text('{"task": {}}')
    with pytest.raises(RefusedError, match="is not that of an n-gram model"):
        train_ngram(TrainNgramJob(**job))


def test_a_job_cut_short_leaves_no_model_and_can_be_run_again(job, tmp_path, monkeypatch):
    write = Location.write_json

    def full_disk(self, content):
        if self.path.endswith(store.CONFIG):
            raise EnvironmentFailure("no space left on device")
        write(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Location, "write_json", full_disk)
        with pytest.raises(EnvironmentFailure):
            train_ngram(TrainNgramJob(**job))
    assert contents(tmp_path / "ngram").keys() == store.FILES
    with pytest.raises(CheckpointError, match="there is no n-gram model"):
        load_ngram(job["output"])
    train_ngram(TrainNgramJob(**job))
    assert load_ngram(job["output"]).model.order == 3
