"""rnnlm.load: what each kind of model can do, with each kind of rows; the numbers are those of the library."""

import functools
import sys

import huggingface_hub
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import rnnlm
from rnnlm.baselines import HMMConfig
from rnnlm.data.labelled import LabelledRows
from rnnlm.export.huggingface import export_huggingface
from rnnlm.hub import HUB_FILES
from rnnlm.inference.embed import Embedder
from rnnlm.storage import open_location
from tests.corpora import save_tiny, save_tiny_translation, sentences
from tests.unit.inference.test_predict_work import TAGS, save_tagger

TEXTS = [*sentences(5), "", None]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loaded") / "checkpoint"
    save_tiny(folder)
    return rnnlm.load(str(folder))


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    save_tagger(folder, TAGS, head="softmax")
    return rnnlm.load(str(folder))


def frames(columns):
    """The same rows as each kind that is taken, and how to make a dict of columns of what comes back."""
    return {
        "arrow": (pa.table(columns), lambda found: found.to_pydict()),
        "pandas": (pd.DataFrame(columns, index=range(7, 7 + len(TEXTS))), lambda found: found.to_dict("list")),
        "polars": (pl.DataFrame(columns), lambda found: found.to_dict(as_series=False)),
        "dicts": (
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
            lambda found: {name: [row[name] for row in found] for name in found[0]},
        ),
    }


def test_scores_are_those_of_a_scorer(language_model):
    found = language_model.score(TEXTS)
    expected = rnnlm.Scorer(language_model.checkpoint).score_texts(TEXTS[:-1])
    assert [row["text"] for row in found] == TEXTS
    assert [row["logprob"] for row in found[:-1]] == pytest.approx(expected.logprob.tolist(), abs=1e-5)
    assert found[-1]["logprob"] is None
    assert found[-1]["error"].startswith("null_text")


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "dicts"])
def test_the_same_kind_comes_back_with_new_columns_behind_the_old(language_model, kind):
    columns = {"id": list(range(len(TEXTS))), "text": TEXTS, "odd": [{"a": 1}] * len(TEXTS)}
    rows, as_columns = frames(columns)[kind]
    found = language_model.score(rows)
    assert type(found) is type(rows)
    read = as_columns(found)
    assert list(read) == [*columns, "logprob", "num_tokens", "bits_per_byte", "error"]
    assert read["id"] == columns["id"]
    assert read["text"][:-1] == TEXTS[:-1]
    expected = [row["logprob"] for row in language_model.score(TEXTS[:-1])]
    assert read["logprob"][:-1] == pytest.approx(expected, abs=1e-5)
    if kind == "pandas":
        assert list(found.index) == list(rows.index)


def test_columns_that_are_not_read_may_hold_anything(language_model):
    rows = pd.DataFrame({"text": ["the cat"], "object": [object()]})
    assert language_model.score(rows)["object"][0] is rows["object"][0]


def test_prompts_go_on(language_model):
    found = language_model.generate(["the cat", ""], decoding=rnnlm.GreedyConfig(max_tokens=4))
    generator = rnnlm.Generator(language_model.checkpoint)
    expected = generator.generate(["the cat", ""], rnnlm.GreedyConfig(max_tokens=4))
    assert [row["hypotheses"][0]["tokens"] for row in found] == [hypotheses[0].tokens for hypotheses in expected]


def test_an_encoder_decoder_scores_and_writes_targets(tmp_path):
    checkpoint = save_tiny_translation(tmp_path)
    model = rnnlm.load(str(tmp_path))
    rows = [{"de": "the cat", "en": "cat the"}, {"de": " ", "en": "a"}]
    found = model.score(rows, text_column="de", target_column="en")
    expected = rnnlm.Translator(checkpoint).score_pairs(["the cat"], ["cat the"])
    assert found[0]["logprob"] == pytest.approx(expected.logprob[0], abs=1e-5)
    assert found[1]["error"].startswith("empty_source")
    assert len(model.generate(["the cat"], decoding=rnnlm.BeamConfig(max_tokens=4))[0]["hypotheses"]) == 1
    assert model.abilities == ("score", "generate", "embed")


def test_a_tagger_labels_words_and_texts(tagger):
    words = ["Mary", "saw", "Peter"]
    of_words, of_text = tagger.predict([words, []]), tagger.predict([" ".join(words)])
    assert of_words[0]["words"] == words
    assert len(of_words[0]["labels"]) == 3
    assert of_words[1]["error"]
    assert of_text[0]["labels"] == of_words[0]["labels"]
    assert of_text[0]["text"] == "Mary saw Peter"
    frame = tagger.predict(pl.DataFrame({"tokens": [words]}), words_column="tokens")
    assert frame["labels"].to_list() == [of_words[0]["labels"]]


def test_vectors_are_those_of_an_embedder(language_model, tagger):
    found = language_model.embed(["the cat"], pooling="mean", normalise=True)[0]["vector"]
    expected = Embedder(language_model.checkpoint, pooling="mean", normalise=True).embed(["the cat"])
    np.testing.assert_allclose(found, expected[0], atol=1e-6)
    assert len(tagger.embed([["Mary", "saw"]])[0]["vector"]) == len(tagger.embed(["Mary saw"])[0]["vector"])


def test_a_baseline_predicts(tmp_path):
    rows = LabelledRows([["Mary", "saw"], ["Peter", "saw"]], [["N", "V"], ["N", "V"]], of_rows=False)
    HMMConfig().fit(rows).save(open_location(str(tmp_path)))
    model = rnnlm.load(str(tmp_path))
    assert model.abilities == ("predict",)
    assert model.predict([["Peter", "saw"]])[0]["labels"] == ["N", "V"]
    with pytest.raises(rnnlm.ConfigError, match="is a baseline"):
        _ = model.checkpoint


def test_no_rows_give_no_rows(language_model, tagger):
    assert language_model.score([]) == []
    assert tagger.predict([]) == []
    empty = language_model.score(pa.table({"text": pa.array([], pa.string())}))
    assert empty.schema.names == ["text", "logprob", "num_tokens", "bits_per_byte", "error"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m.predict(["a"]), rnnlm.ConfigError, "LanguageModel, which can score, generate, embed"),
        (lambda m: m.score("a text"), rnnlm.DataError, "rows are a list of texts.*not str"),
        (lambda m: m.score(["a", None, ["b"]]), rnnlm.DataError, r"list \(row 2\) and str \(row 0\)"),
        (lambda m: m.score(["a", 5]), rnnlm.DataError, "not int at the list of rows, row 1"),
        (lambda m: m.score([["a", "b"]]), rnnlm.DataError, "no column 'text'; they have words"),
        (lambda m: m.score([{"txt": "a"}]), rnnlm.DataError, "no column 'text'; they have txt"),
        (lambda m: m.score([{"text": 5}]), rnnlm.DataError, "'text' has type int64; text is needed"),
        (lambda m: m.score([{"text": 5}, {"text": "a"}]), rnnlm.DataError, "text cannot be read"),
        (lambda m: m.score([{"text": "a", "error": ""}]), rnnlm.DataError, "a column 'error' already.*rename it"),
        (lambda m: m.score(["a"], token_logprob=True), rnnlm.ConfigError, "did you mean 'token_logprobs'"),
        (lambda m: m.score(["a"], target_column="b"), rnnlm.ConfigError, "is a language model"),
        (lambda m: m.embed(["a"], layer=5), rnnlm.ConfigError, "there is no layer 5"),
    ],
)
def test_what_cannot_be_is_said(language_model, call, error, words):
    with pytest.raises(error, match=words):
        call(language_model)


def test_what_is_prepared_is_kept_for_the_same_options(language_model):
    language_model.score(["the cat"])
    kept = language_model._ready["score"][1]
    language_model.score(["the dog"])
    assert language_model._ready["score"][1] is kept
    language_model.score(["the dog"], token_logprobs=True)
    assert language_model._ready["score"][1] is not kept


@pytest.fixture
def hub_folder(language_model, tmp_path):
    folder = tmp_path / "hub"
    export_huggingface(language_model.checkpoint, open_location(str(folder)), {})
    return folder


def test_a_folder_of_the_hub_is_the_model(language_model, hub_folder):
    model = rnnlm.load(str(hub_folder))
    assert model.fingerprint == language_model.fingerprint
    assert model.score(TEXTS) == language_model.score(TEXTS)


def test_another_librarys_folder_is_refused(hub_folder):
    (hub_folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(rnnlm.CheckpointError, match="a model of another library"):
        rnnlm.load(str(hub_folder))


def test_a_damaged_folder_of_the_hub_is_refused(hub_folder):
    (hub_folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(rnnlm.CheckpointError, match=r"is not what was saved|lacks"):
        rnnlm.load(str(hub_folder))


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """The hub's client with a cache of its own and no network."""
    cache = tmp_path / "cache"
    offline = functools.partial(huggingface_hub.snapshot_download, cache_dir=cache, local_files_only=True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    return cache


def test_a_name_on_the_hub_is_looked_up_in_its_cache(language_model, hub_folder, offline_hub):
    snapshot = offline_hub / "models--someone--tiny" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    for name in HUB_FILES:
        (snapshot / name).symlink_to(hub_folder / name)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    assert rnnlm.load("hf://someone/tiny").fingerprint == language_model.fingerprint
    assert rnnlm.load("hf://someone/tiny@main").fingerprint == language_model.fingerprint


def test_a_name_that_is_none_or_not_to_be_had_is_said(offline_hub, monkeypatch):
    with pytest.raises(rnnlm.DataError, match="names no model; write hf://owner/name"):
        rnnlm.load("hf://nameonly")
    with pytest.raises(rnnlm.EnvironmentFailure, match=r"cannot get hf://nobody/nothing.*HF_TOKEN"):
        rnnlm.load("hf://nobody/nothing")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(rnnlm.EnvironmentFailure, match=r"pip install 'rnnlm\[hub\]'"):
        rnnlm.load("hf://nobody/nothing")
