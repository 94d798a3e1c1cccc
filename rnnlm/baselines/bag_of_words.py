"""Logistic regression on a bag of words and pairs of words: what a classifier can do without order.

A text is cut into tokens by one rule: lower-cased runs of letters, digits and apostrophes (a typographic one counts as
straight). A feature is a token or two tokens that stand side by side, found in enough texts; with c for how often it is
in a text, d for the number of texts it is in and n for that of all texts, its value in a text is

    binary    1
    counts    c
    tfidf     (1 + ln c) (1 + ln((1 + n) / (1 + d))), scaled so that the text's vector has length one

Of classes that exclude each other, p(y | x) is the softmax of W x + b, of two of them the sigmoid of w x + b; of labels
that do not, each has a sigmoid of its own (binary relevance). Fitting minimises -sum ln p + |W|^2 / 2C and needs
scikit-learn, the extra `baselines`; using a fitted model does not.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from rnnlm.baselines.base import BaselineClassifier, BaselineConfig, Floats, only_labels, text_of
from rnnlm.baselines.lexicon import Numbers
from rnnlm.baselines.store import load_baseline, save_baseline
from rnnlm.config import config, from_dict, to_dict
from rnnlm.data.labelled import LabelledRows
from rnnlm.errors import ConfigError, DataError, EnvironmentFailure
from rnnlm.storage import Location

TEXTS_AT_A_TIME = 2000  # bounds memory in predicting
TOKEN = re.compile(r"(?:[^\W_]|')+")


@config
class BagOfWordsConfig(BaselineConfig):
    """A linear classifier of texts."""

    tunable: ClassVar = ("inverse_regularization", (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0))

    bigrams: bool = True
    "Whether two tokens side by side are a feature, beside single tokens."
    min_documents: int = Field(default=2, ge=1)
    "In how many texts a feature must be to count."
    weighting: Literal["binary", "counts", "tfidf"] = "tfidf"
    "What a feature's value is."
    inverse_regularization: float = Field(default=10.0, gt=0.0)
    "C: the higher, the larger the weights may be."
    max_iterations: int = Field(default=1000, ge=1)
    "Of L-BFGS, which most often is done after far fewer."

    def fit(self, rows: LabelledRows, *, multi_label: bool = False) -> "BagOfWordsClassifier":
        if not rows.of_rows:
            raise ConfigError("baseline: bag_of_words labels rows, these are labels of words; take hmm")
        texts = [text_of(words) for words in rows.words]
        if multi_label:
            return BagOfWordsClassifier.fit_multi_label(texts, rows.labels, self)
        return BagOfWordsClassifier.fit(texts, only_labels(rows), self)


def tokens(text: str) -> list[str]:
    """Lower-cased runs of letters, digits and apostrophes."""
    return TOKEN.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


class BagOfWordsClassifier(BaselineClassifier):
    """Features with their weights. With V words, the key of word i is i, that of the pair i j is (i + 1) V + j."""

    kind = "bag_of_words"

    def __init__(
        self,
        settings: BagOfWordsConfig,
        labels: list[str],
        words: list[str],
        arrays: dict[str, npt.NDArray[Any]],
        *,
        multi_label: bool,
    ) -> None:
        """`arrays`: the features' sorted `keys`, their `idf`, and `weights` and `bias`, with a row a label (but one
        row, that of the second label, if there are two that exclude each other)."""
        self.settings, self.labels, self.multi_label = settings, labels, multi_label
        self._words, self._arrays = words, arrays
        self._word = {word: place for place, word in enumerate(words)}

    @classmethod
    def fit(
        cls, texts: Sequence[str], labels: Sequence[str], settings: BagOfWordsConfig | None = None
    ) -> "BagOfWordsClassifier":
        """One label a text. Raises DataError if they do not pair up or are all the same."""
        _check_paired(texts, labels)
        found = sorted(set(labels))
        if len(found) < 2:
            raise DataError(f"a classifier needs two labels, found {found}", todo="give texts of each label")
        classifier = cls._with_features(texts, found, settings or BagOfWordsConfig(), multi_label=False)
        place = {label: number for number, label in enumerate(found)}
        targets = np.array([place[label] for label in labels])
        weights, bias = classifier._regression(classifier._matrix(texts), targets)
        classifier._arrays |= {"weights": weights, "bias": bias}
        return classifier

    @classmethod
    def fit_multi_label(
        cls, texts: Sequence[str], labels: Sequence[Collection[str]], settings: BagOfWordsConfig | None = None
    ) -> "BagOfWordsClassifier":
        """Any number of labels a text, also none."""
        _check_paired(texts, labels)
        found = sorted({label for some in labels for label in some})
        if not found:
            raise DataError("no text has a label", todo="give texts of each label")
        classifier = cls._with_features(texts, found, settings or BagOfWordsConfig(), multi_label=True)
        matrix = classifier._matrix(texts)
        rows = []
        for label in found:
            targets = np.array([label in some for some in labels], dtype=np.int64)
            rows.append(classifier._regression(matrix, targets))
        classifier._arrays |= {
            "weights": np.concatenate([weights for weights, _ in rows]),
            "bias": np.concatenate([bias for _, bias in rows]),
        }
        return classifier

    @property
    def num_features(self) -> int:
        return len(self._arrays["keys"])

    def probabilities(self, texts: Sequence[str]) -> Floats:
        begins = range(0, len(texts), TEXTS_AT_A_TIME)
        parts = [self._probabilities(texts[begin : begin + TEXTS_AT_A_TIME]) for begin in begins]
        return np.concatenate([np.zeros((0, len(self.labels))), *parts])

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[number] for number in self.probabilities(texts).argmax(axis=1).tolist()]

    def predict_sets(self, texts: Sequence[str], threshold: float = 0.5) -> list[list[str]]:
        """All labels of each text whose probability is at least `threshold`, for a model of several labels a text."""
        if not self.multi_label:
            raise DataError("this model was fitted to one label a text", todo="use predict")
        return [
            [label for label, chosen in zip(self.labels, row, strict=True) if chosen]
            for row in (self.probabilities(texts) >= threshold).tolist()
        ]

    def save(self, location: Location, trained: Mapping[str, Any] | None = None) -> None:
        save_baseline(
            location,
            self.kind,
            settings={"multi_label": self.multi_label, "config": to_dict(self.settings)},
            strings={"words": self._words, "labels": self.labels},
            arrays=self._arrays,
            trained=trained,
        )

    @classmethod
    def load(cls, location: Location) -> "BagOfWordsClassifier":
        stored = load_baseline(
            location,
            cls.kind,
            settings=("config", "multi_label"),
            strings=("words", "labels"),
            arrays=("keys", "idf", "weights", "bias"),
        )
        settings = from_dict(BagOfWordsConfig, stored.settings["config"])
        words, labels = stored.strings["words"], stored.strings["labels"]
        return cls(settings, labels, words, stored.arrays, multi_label=stored.settings["multi_label"])

    @classmethod
    def _with_features(
        cls, texts: Sequence[str], labels: list[str], settings: BagOfWordsConfig, *, multi_label: bool
    ) -> "BagOfWordsClassifier":
        _require_sklearn()  # before the work of counting
        documents: Counter[str] = Counter()
        for text in texts:
            documents.update(set(tokens(text)))
        words = sorted(word for word, count in documents.items() if count >= settings.min_documents)
        found = cls(settings, labels, words, {}, multi_label=multi_label)
        rows, keys = found._occurrences(texts)
        distinct, columns = np.unique(keys, return_inverse=True)
        cells = np.sort(rows * len(distinct) + columns)  # np.unique alone would hash, which is far slower here
        first = np.diff(cells, prepend=-1) > 0
        frequency = np.bincount(cells[first] % max(len(distinct), 1))
        kept = frequency >= settings.min_documents
        if not kept.any():
            raise DataError(
                f"no token is in {settings.min_documents} of {len(texts)} texts", todo="lower min_documents"
            )
        idf = 1.0 + np.log((1 + len(texts)) / (1 + frequency[kept]))
        found._arrays |= {"keys": distinct[kept], "idf": idf}
        return found

    def _occurrences(self, texts: Sequence[str]) -> tuple[Numbers, Numbers]:
        """Text and key of every known token, then of every pair of known tokens."""
        ids = [[self._word.get(token, -1) for token in tokens(text)] for text in texts]
        flat = np.array([number for some in ids for number in some], dtype=np.int64)
        rows = np.repeat(np.arange(len(ids)), [len(some) for some in ids])
        known = flat >= 0
        if not self.settings.bigrams:
            return rows[known], flat[known]
        pairs = known[:-1] & known[1:] & (rows[:-1] == rows[1:])
        keys = (flat[:-1][pairs] + 1) * len(self._words) + flat[1:][pairs]
        return np.concatenate([rows[known], rows[:-1][pairs]]), np.concatenate([flat[known], keys])

    def _features(self, texts: Sequence[str]) -> tuple[Numbers, Numbers, Floats]:
        """Text, feature and value of every feature of every text, sorted by text and feature."""
        rows, wanted = self._occurrences(texts)
        keys = self._arrays["keys"]
        columns = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        seen = keys[columns] == wanted
        cells, counts = np.unique(rows[seen] * len(keys) + columns[seen], return_counts=True)
        rows, columns = np.divmod(cells, len(keys))
        if self.settings.weighting == "binary":
            return rows, columns, np.ones(len(rows))
        if self.settings.weighting == "counts":
            return rows, columns, counts.astype(np.float64)
        values = (1.0 + np.log(counts)) * self._arrays["idf"][columns]
        lengths = np.sqrt(np.bincount(rows, weights=values**2, minlength=len(texts)))
        return rows, columns, values / lengths[rows]

    def _probabilities(self, texts: Sequence[str]) -> Floats:
        rows, columns, values = self._features(texts)
        scores = np.stack(
            [
                np.bincount(rows, weights=values * weights[columns], minlength=len(texts)) + bias
                for weights, bias in zip(self._arrays["weights"], self._arrays["bias"], strict=True)
            ],
            axis=1,
        )
        if self.multi_label:
            return 0.5 * (1.0 + np.tanh(0.5 * scores))  # the sigmoid, without overflow
        if len(self.labels) == 2:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def _matrix(self, texts: Sequence[str]) -> Any:
        from scipy.sparse import csr_array  # noqa: PLC0415 - comes with scikit-learn, an extra

        rows, columns, values = self._features(texts)
        return csr_array((values, (rows, columns)), shape=(len(texts), self.num_features))

    def _regression(self, matrix: Any, targets: Numbers) -> tuple[Floats, Floats]:
        """Rows of weights, and the bias of each."""
        if targets.min() == targets.max():  # a label that all texts have: nothing tells texts apart
            positive = int(targets.sum())
            bias = np.log((positive + 0.5) / (len(targets) - positive + 0.5))
            return np.zeros((1, self.num_features)), np.array([bias])
        regression = _require_sklearn()(
            C=self.settings.inverse_regularization, solver="lbfgs", max_iter=self.settings.max_iterations
        )
        regression.fit(matrix, targets)
        return regression.coef_, regression.intercept_


def _require_sklearn() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise EnvironmentFailure(
            "fitting a bag-of-words classifier needs scikit-learn", todo="pip install rnnlm[baselines]"
        ) from error
    return LogisticRegression


def _check_paired(texts: Sequence[str], labels: Sequence[Any]) -> None:
    if len(texts) != len(labels):
        raise DataError(f"{len(texts)} texts and {len(labels)} labels", todo="give one a text")
