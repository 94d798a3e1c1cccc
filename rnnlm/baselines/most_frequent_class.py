"""The most frequent class of rows, whatever their words: what accuracy is worth without reading.

p(y | x) = f(y) / N        f(y) of N rows have the class; where a row may have several, each for itself
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rnnlm.baselines.base import BaselineClassifier, Floats
from rnnlm.baselines.store import load_baseline, save_baseline
from rnnlm.errors import DataError
from rnnlm.storage import Location


class MostFrequentClass(BaselineClassifier):
    """Says the same of every row."""

    kind = "most_frequent_class"

    def __init__(self, labels: list[str], shares: Floats, *, multi_label: bool) -> None:
        """Of all rows, `shares[i]` have the class `labels[i]`."""
        self.labels, self.shares, self.multi_label = labels, shares, multi_label

    @classmethod
    def fit(cls, labels: Sequence[Collection[str]], *, multi_label: bool) -> "MostFrequentClass":
        """From the classes of each row. Raises DataError if there is none."""
        counts = Counter(label for some in labels for label in set(some))
        if not counts:
            raise DataError("no row has a class", todo="give rows of each class")
        found = sorted(counts)
        shares = np.array([counts[label] for label in found], dtype=np.float64) / len(labels)
        return cls(found, shares, multi_label=multi_label)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        return np.tile(self.shares, (len(texts), 1))

    def save(self, location: Location, trained: Mapping[str, Any] | None = None) -> None:
        save_baseline(
            location,
            self.kind,
            settings={"multi_label": self.multi_label},
            strings={"labels": self.labels},
            arrays={"shares": self.shares},
            trained=trained,
        )

    @classmethod
    def load(cls, location: Location) -> "MostFrequentClass":
        stored = load_baseline(location, cls.kind, settings=("multi_label",), strings=("labels",), arrays=("shares",))
        multi_label = stored.settings["multi_label"]
        return cls(stored.strings["labels"], stored.arrays["shares"], multi_label=multi_label)
