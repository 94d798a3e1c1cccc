"""Baselines as a job fits them: which labels each of them takes, tuning, and what comes back from a folder."""

import numpy as np
import pytest

from rnnlm.baselines import (
    BagOfWordsConfig,
    HMMConfig,
    MostFrequentClass,
    MostFrequentConfig,
    is_baseline,
    loaded_baseline,
    tune,
)
from rnnlm.data.labelled import LabelledRows
from rnnlm.errors import CheckpointError, ConfigError, DataError
from rnnlm.storage import open_location

TAGGED = LabelledRows([["the", "duck", "swims"], ["the", "swan"]], [["D", "N", "V"], ["D", "N"]], of_rows=False)
ONE = LabelledRows(
    [["good", "film"], ["bad", "film"], ["good"], ["bad"], ["good"]], [["p"], ["n"], ["p"], ["n"], ["p"]], True
)
SEVERAL = LabelledRows([["good", "film"], ["bad", "film"], ["good"]], [["p", "f"], ["f"], []], of_rows=True)
FITS = {
    "hmm": (HMMConfig(), TAGGED, False),
    "most frequent tag": (MostFrequentConfig(), TAGGED, False),
    "most frequent class": (MostFrequentConfig(), ONE, False),
    "shares of classes": (MostFrequentConfig(), SEVERAL, True),
    "bag of words": (BagOfWordsConfig(min_documents=1), ONE, False),
    "several in a bag": (BagOfWordsConfig(min_documents=1), SEVERAL, True),
}


@pytest.mark.parametrize("name", FITS)
def test_a_model_comes_back_from_its_folder_and_is_known_by_it(name, tmp_path):
    settings, rows, multi_label = FITS[name]
    model = settings.fit(rows, multi_label=multi_label)
    folders = [open_location(str(tmp_path / name)) for name in "abc"]
    model.save(folders[0], {"rows": 3})
    model.save(folders[1])
    settings.fit(rows._replace(words=rows.words[:-1], labels=rows.labels[:-1]), multi_label=multi_label).save(
        folders[2]
    )
    assert all(is_baseline(folder) for folder in folders)
    first, second, other = map(loaded_baseline, folders)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert loaded_baseline(folders[0]) is first
    assert type(first.model) is type(model)
    if rows.of_rows:
        texts = ["good film", "film", ""]
        np.testing.assert_array_equal(first.model.probabilities(texts), model.probabilities(texts))
        assert first.model.labels == model.labels
        assert first.model.multi_label == multi_label
    else:
        words = [["the", "goose", "swims"], []]
        tags = model.tag(words)
        assert first.model.tag(words) == tags
        for found, expected in zip(first.model.confidences(words, tags), model.confidences(words, tags), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_other_folders_are_no_baselines(tmp_path):
    folder = open_location(str(tmp_path))
    assert not is_baseline(folder)
    folder.join("config.json").write_json({"task": {}})
    assert not is_baseline(folder)
    folder.join("config.json").write_json({"kind": "hmm"})
    assert is_baseline(folder)
    with pytest.raises(CheckpointError, match="format version None"):
        loaded_baseline(folder)


def test_a_baseline_takes_only_what_it_labels():
    with pytest.raises(ConfigError, match=r"hmm labels words.*take bag_of_words"):
        HMMConfig().fit(ONE)
    with pytest.raises(ConfigError, match=r"bag_of_words labels rows.*take hmm"):
        BagOfWordsConfig().fit(TAGGED)
    for settings in (BagOfWordsConfig(min_documents=1), MostFrequentConfig()):
        with pytest.raises(DataError, match=r"row 0 .* has 2 classes; set multi_label=true"):
            settings.fit(SEVERAL)


def test_the_most_frequent_class_is_that_of_every_row():
    found = MostFrequentConfig().fit(ONE)
    assert found.labels == ["n", "p"]
    np.testing.assert_allclose(found.probabilities(["a", "b"]), [[0.4, 0.6]] * 2)
    several = MostFrequentConfig().fit(SEVERAL, multi_label=True)
    np.testing.assert_allclose(several.probabilities(["a"]), [[2 / 3, 1 / 3]])
    with pytest.raises(DataError, match="no row has a class"):
        MostFrequentClass.fit([[]], multi_label=True)


def test_a_confidence_is_the_share_that_the_tag_has():
    rows = LabelledRows([["a", "a", "a", "b"]], [["X", "X", "Y", "Y"]], of_rows=False)
    found = MostFrequentConfig().fit(rows)
    tags = found.tag([["a", "b", "c"], []])
    np.testing.assert_allclose(found.confidences([["a", "b", "c"], []], tags)[0], [2 / 3, 1, 1 / 2])
    model = HMMConfig().fit(TAGGED)
    (tags,) = model.tag([["the", "goose"]])
    (marginals,), (sure,) = model.marginals([["the", "goose"]]), model.confidences([["the", "goose"]], [tags])
    np.testing.assert_array_equal(sure, [row[model.tags.index(tag)] for row, tag in zip(marginals, tags, strict=True)])


def test_tuning_keeps_the_first_best_value():
    figures = iter([0.2, 0.9, 0.5, 0.9, 0.1, 0.3, 0.0])
    seen = []

    def measure(model):
        seen.append(model)
        return next(figures)

    found = tune(HMMConfig(max_suffix=3), TAGGED, measure)
    assert found.field == "theta"
    assert found.value == list(found.figures)[1] == found.model.settings.theta
    assert found.model is seen[1]
    assert {model.settings.max_suffix for model in seen} == {3}
    assert [model.settings.theta for model in seen] == list(found.figures)
    with pytest.raises(ConfigError, match="no setting to tune"):
        tune(MostFrequentConfig(), TAGGED, measure)
