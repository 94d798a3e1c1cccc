"""What a baseline is: a config in conf/baseline, and the model that it fits to a labelled table.

A model labels words (`BaselineTagger`) or rows (`BaselineClassifier`), and says with which probability.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rnnlm.baselines.lexicon import Sentences
from rnnlm.config import config
from rnnlm.data.labelled import LabelledRows
from rnnlm.errors import DataError
from rnnlm.storage import Location

Floats = npt.NDArray[np.float64]


class Baseline(ABC):
    """A fitted model."""

    kind: ClassVar[str]  # in its config.json

    @abstractmethod
    def save(self, location: Location, trained: Mapping[str, Any] | None = None) -> None:
        """Write the folder `location`; `trained` says what the model was made of."""

    @classmethod
    @abstractmethod
    def load(cls, location: Location) -> "Baseline":
        """Read it. Raises CheckpointError with the cure."""


class BaselineTagger(Baseline):
    """Gives each word one of `tags`."""

    tags: list[str]

    @abstractmethod
    def tag(self, sentences: Sentences) -> list[list[str]]:
        """A tag for each word of each sentence."""

    @abstractmethod
    def confidences(self, sentences: Sentences, tags: Sentences) -> list[Floats]:
        """The probability of each of these tags."""


class BaselineClassifier(Baseline):
    """Gives each text one of `labels`, or with `multi_label` any number of them."""

    labels: list[str]
    multi_label: bool

    @abstractmethod
    def probabilities(self, texts: Sequence[str]) -> Floats:
        """A row a text, a column a label; rows add up to one unless `multi_label`."""


@config
class BaselineConfig(ABC):
    """Base of the configs in conf/baseline."""

    tunable: ClassVar[tuple[str, Sequence[float]] | None] = None  # the field that matters most, and values to try

    @abstractmethod
    def fit(self, rows: LabelledRows, *, multi_label: bool = False) -> Baseline:
        """Learn from rows. Raises ConfigError if the model does not label what they have labels of, and DataError
        where there are labels or words too many, or none."""


def text_of(words: Sequence[str]) -> str:
    """A row of words as the text that a classifier is given, in fitting as in use."""
    return " ".join(words)


def only_labels(rows: LabelledRows) -> list[str]:
    """The class of each row. Raises DataError if one has several, or none."""
    wrong = next((row for row, labels in enumerate(rows.labels) if len(labels) != 1), None)
    if wrong is not None:
        raise DataError(
            f"row {wrong} of the rows with labels has {len(rows.labels[wrong])} classes", todo="set multi_label=true"
        )
    return [labels[0] for labels in rows.labels]
