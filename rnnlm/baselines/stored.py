"""A baseline of any kind, read from its folder."""

import functools
from dataclasses import dataclass

from rnnlm.baselines.bag_of_words import BagOfWordsClassifier
from rnnlm.baselines.base import Baseline
from rnnlm.baselines.hmm import HMMTagger
from rnnlm.baselines.most_frequent import MostFrequentTagger
from rnnlm.baselines.most_frequent_class import MostFrequentClass
from rnnlm.baselines.store import CONFIG, fingerprint_of, kind_of
from rnnlm.storage import Location, open_location

MODELS: dict[str, type[Baseline]] = {
    model.kind: model for model in (BagOfWordsClassifier, HMMTagger, MostFrequentClass, MostFrequentTagger)
}


@dataclass(frozen=True)
class StoredBaseline:
    """A model ready for use, with its identity."""

    model: Baseline
    fingerprint: str  # SHA-256 over all that it is


def is_baseline(folder: Location) -> bool:
    """Whether a folder holds a baseline, whatever its state."""
    return kind_of(folder) in MODELS


def loaded_baseline(folder: Location) -> StoredBaseline:
    """The baseline in a folder, read only once a process. Raises CheckpointError with the cure."""
    return _loaded(folder.address, folder.join(CONFIG).info().mtime_ns)


@functools.lru_cache(maxsize=8)
def _loaded(address: str, mtime_ns: int | None) -> StoredBaseline:  # noqa: ARG001 - a rewritten model is another key
    folder = open_location(address)
    kind = kind_of(folder)
    assert kind in MODELS, "ask is_baseline first"
    return StoredBaseline(MODELS[kind].load(folder), fingerprint_of(folder, kind))
