"""Logistic regression on words and pairs of words; fitting needs scikit-learn, the rest does not."""

import subprocess
import sys

import numpy as np
import pytest

from rnnlm.baselines import BagOfWordsClassifier, BagOfWordsConfig, bag_of_words
from rnnlm.errors import CheckpointError, DataError, EnvironmentFailure
from rnnlm.storage import open_location

GOOD = ["a good film", "good fun", "so good it is", "not bad at all", "not bad"]
BAD = ["a bad film", "bad fun", "so bad it is", "not good at all", "not good"]
TEXTS, LABELS = GOOD + BAD, ["pos"] * 5 + ["neg"] * 5


@pytest.fixture
def sklearn():
    return pytest.importorskip("sklearn")


def test_tokens():
    assert bag_of_words.tokens("Don\N{RIGHT SINGLE QUOTATION MARK}t STOP_me: 3.5 caf\u00e9s, n't!") == [
        "don't", "stop", "me", "3", "5", "caf\u00e9s", "n't",
    ]  # fmt: skip
    assert bag_of_words.tokens(" _ -- ") == []


@pytest.mark.usefixtures("sklearn")
class TestFitted:
    @pytest.mark.parametrize("weighting", ["binary", "counts", "tfidf"])
    def test_pairs_of_words_tell_what_words_cannot(self, weighting):
        chosen = {"min_documents": 1, "weighting": weighting, "inverse_regularization": 100.0}
        with_pairs = BagOfWordsClassifier.fit(TEXTS, LABELS, BagOfWordsConfig(**chosen))
        assert with_pairs.predict(TEXTS) == LABELS
        words = BagOfWordsClassifier.fit(TEXTS, LABELS, BagOfWordsConfig(**chosen, bigrams=False))
        assert words.predict(TEXTS) != LABELS

    @pytest.mark.parametrize("labels", [LABELS, ["a", "b", "c", "d", "e"] * 2])
    def test_probabilities_are_those_of_scikit_learn(self, labels):
        from sklearn.linear_model import LogisticRegression

        chosen = BagOfWordsConfig()
        found = BagOfWordsClassifier.fit(TEXTS, labels, chosen)
        matrix = found._matrix(TEXTS)
        reference = LogisticRegression(C=chosen.inverse_regularization, max_iter=1000).fit(matrix, labels)
        assert found.labels == reference.classes_.tolist()
        assert found.probabilities(TEXTS) == pytest.approx(reference.predict_proba(matrix), rel=1e-9)

    def test_features_are_scikit_learns_tfidf(self):
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = [*TEXTS, "good good good bad bad", "", "entirely unseen"]
        found = BagOfWordsClassifier.fit(texts, ["x", "y"] * 6 + ["x"])
        vectors = TfidfVectorizer(
            tokenizer=bag_of_words.tokens, token_pattern=None, ngram_range=(1, 2), min_df=2, sublinear_tf=True
        )
        expected = vectors.fit_transform(texts).toarray()
        names = vectors.get_feature_names_out()
        size = len(found._words)
        mine = [
            found._words[key] if key < size else f"{found._words[key // size - 1]} {found._words[key % size]}"
            for key in found._arrays["keys"].tolist()
        ]
        assert sorted(mine) == sorted(names)
        assert found._matrix(texts).toarray() == pytest.approx(
            expected[:, [names.tolist().index(name) for name in mine]]
        )

    def test_several_labels_a_text(self):
        texts = ["red", "blue", "red blue", "", "green red", "green blue"] * 3
        labels = [{"r"}, {"b"}, {"r", "b"}, set(), {"r"}, {"b"}] * 3
        chosen = BagOfWordsConfig(inverse_regularization=1000.0, weighting="binary")
        found = BagOfWordsClassifier.fit_multi_label(texts, [some | {"always"} for some in labels], chosen)
        assert found.predict_sets(texts) == [sorted(some | {"always"}) for some in labels]
        assert found.predict(["red"]) in (["r"], ["always"])
        probabilities = found.probabilities(texts)
        assert probabilities[:, 0] == pytest.approx(np.full(18, 18.5 / 19))
        assert found.predict_sets(["red"], threshold=1.0) == [[]]

    def test_it_is_the_same_each_time_however_texts_are_cut(self, monkeypatch):
        found = BagOfWordsClassifier.fit(TEXTS, LABELS)
        expected = found.probabilities(TEXTS)
        monkeypatch.setattr(bag_of_words, "TEXTS_AT_A_TIME", 3)
        assert np.array_equal(BagOfWordsClassifier.fit(TEXTS, LABELS).probabilities(TEXTS), expected)
        assert found.probabilities([]).shape == (0, 2)
        assert found.predict([]) == []

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_it_comes_back_and_predicts_without_scikit_learn(self, tmp_path, multi_label):
        if multi_label:
            found = BagOfWordsClassifier.fit_multi_label(TEXTS, [{label} for label in LABELS])
        else:
            found = BagOfWordsClassifier.fit(TEXTS, LABELS)
        found.save(open_location(str(tmp_path / "a")))
        again = BagOfWordsClassifier.load(open_location(str(tmp_path / "a")))
        assert np.array_equal(again.probabilities(TEXTS), found.probabilities(TEXTS))
        assert (again.labels, again.settings, again.multi_label) == (found.labels, found.settings, multi_label)
        alone = (
            "import sys; sys.modules.update(sklearn=None, scipy=None)\n"
            "from rnnlm.baselines import BagOfWordsClassifier\nfrom rnnlm.storage import open_location\n"
            f"print(BagOfWordsClassifier.load(open_location({str(tmp_path / 'a')!r})).predict(['so good']))"
        )
        process = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, check=True)
        assert process.stdout == "['pos']\n"

    def test_damage_is_named_with_the_cure(self, tmp_path):
        location = open_location(str(tmp_path / "a"))
        BagOfWordsClassifier.fit(TEXTS, LABELS).save(location)
        card = location.join("config.json")
        whole = card.read_json()
        card.write_json({**whole, "settings": {}})
        with pytest.raises(CheckpointError, match="lacks config, multi_label"):
            BagOfWordsClassifier.load(location)
        card.write_json(whole)
        location.join("arrays.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError, match="is not what was saved"):
            BagOfWordsClassifier.load(location)

    def test_what_cannot_be_learned_from_is_refused(self):
        with pytest.raises(DataError, match="2 texts and 1 labels"):
            BagOfWordsClassifier.fit(["a", "b"], ["x"])
        with pytest.raises(DataError, match=r"needs two labels, found \['x'\]"):
            BagOfWordsClassifier.fit(["a", "b"], ["x", "x"])
        with pytest.raises(DataError, match="no text has a label"):
            BagOfWordsClassifier.fit_multi_label(["a"], [set()])
        for texts in (["a", "b"], ["", ""]):
            with pytest.raises(DataError, match="no token is in 2 of 2 texts; lower min_documents"):
                BagOfWordsClassifier.fit(texts, ["x", "y"])
        with pytest.raises(DataError, match="one label a text; use predict"):
            BagOfWordsClassifier.fit(TEXTS, LABELS).predict_sets(TEXTS)


def test_without_scikit_learn_fitting_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(EnvironmentFailure, match=r"needs scikit-learn; pip install rnnlm\[baselines\]"):
        BagOfWordsClassifier.fit(TEXTS, LABELS)
