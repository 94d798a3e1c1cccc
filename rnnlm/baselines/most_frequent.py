"""The most frequent tag of each word: what a tagger without context can do (Charniak et al. 1993, "Equations for
Part-of-Speech Tagging"). Of rows: the most frequent class, whatever their words."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from rnnlm.baselines.base import Baseline, BaselineConfig, BaselineTagger, Floats, only_labels
from rnnlm.baselines.lexicon import Lexicon, Numbers, Sentences
from rnnlm.baselines.most_frequent_class import MostFrequentClass
from rnnlm.baselines.store import load_baseline, save_baseline
from rnnlm.config import config
from rnnlm.data.labelled import LabelledRows
from rnnlm.storage import Location

Unknown = Literal["all", "once"]


@config
class MostFrequentConfig(BaselineConfig):
    """The most frequent tag of each word, or the most frequent class of rows."""

    unknown: Unknown = "all"
    "Of words: which lend their most frequent tag to unknown ones: all, or those seen once, which are most like them."

    def fit(self, rows: LabelledRows, *, multi_label: bool = False) -> Baseline:
        if not rows.of_rows:
            return MostFrequentTagger.fit(rows.words, rows.labels, unknown=self.unknown)
        labels = rows.labels if multi_label else [[label] for label in only_labels(rows)]
        return MostFrequentClass.fit(labels, multi_label=multi_label)


class MostFrequentTagger(BaselineTagger):
    """A known word gets the tag it was seen with most often, an unknown one the same `unknown_tag`."""

    kind = "most_frequent_tag"

    def __init__(
        self,
        words: list[str],
        tags: list[str],
        tag_ids: Numbers,
        shares: Floats,
        unknown_tag: str,
        unknown_share: float,
    ) -> None:
        """Word i gets the tag numbered `tag_ids[i]`, which it has in `shares[i]` of the places where it was seen."""
        self.words, self.tags, self.tag_ids, self.shares = words, tags, tag_ids, shares
        self.unknown_tag, self.unknown_share = unknown_tag, unknown_share
        self._tag = dict(zip(words, (tags[number] for number in tag_ids.tolist()), strict=True))
        self._share = dict(zip(words, shares.tolist(), strict=True))

    @classmethod
    def fit(cls, sentences: Sentences, labels: Sentences, *, unknown: Unknown = "all") -> "MostFrequentTagger":
        """`unknown` says which words lend their most frequent tag to unknown words: all, or those seen only once,
        which are most like them (all, if there is none). Of tags as frequent, the one more frequent overall wins."""
        found = Lexicon.count(sentences, labels)
        overall = found.tag_counts
        rising = np.lexsort((overall[found.tag_ids], found.counts, found.owners))
        once = np.bincount(found.tag_ids[(found.word_counts == 1)[found.owners]], minlength=len(found.tags))
        lender = once if unknown == "once" and once.any() else overall
        best = rising[found.offsets[1:] - 1]
        return cls(
            found.words,
            found.tags,
            found.tag_ids[best],
            found.counts[best] / found.word_counts,
            found.tags[int(np.argmax(lender))],
            float(lender.max() / lender.sum()),
        )

    def tag(self, sentences: Sentences) -> list[list[str]]:
        return [[self._tag.get(word, self.unknown_tag) for word in words] for words in sentences]

    def confidences(self, sentences: Sentences, tags: Sentences) -> list[Floats]:  # noqa: ARG002 - it has no others
        """How often each word had its tag in training; of an unknown one, how often those that lend theirs had it."""
        return [np.array([self._share.get(word, self.unknown_share) for word in words]) for words in sentences]

    def save(self, location: Location, trained: Mapping[str, Any] | None = None) -> None:
        save_baseline(
            location,
            self.kind,
            settings={"unknown_share": self.unknown_share},
            strings={"words": self.words, "tags": self.tags, "unknown_tag": [self.unknown_tag]},
            arrays={"tag_ids": self.tag_ids, "shares": self.shares},
            trained=trained,
        )

    @classmethod
    def load(cls, location: Location) -> "MostFrequentTagger":
        stored = load_baseline(
            location,
            cls.kind,
            settings=("unknown_share",),
            strings=("words", "tags", "unknown_tag"),
            arrays=("tag_ids", "shares"),
        )
        strings, arrays = stored.strings, stored.arrays
        return cls(
            strings["words"],
            strings["tags"],
            arrays["tag_ids"],
            arrays["shares"],
            strings["unknown_tag"][0],
            stored.settings["unknown_share"],
        )
