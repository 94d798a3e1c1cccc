"""Each word's most frequent tag: what a tagger without context can do (Charniak et al. 1993, "Equations for
Part-of-Speech Tagging")."""

from typing import Literal

import numpy as np

from rnnlm.baselines.lexicon import Lexicon, Numbers, Sentences
from rnnlm.baselines.store import load_baseline, save_baseline
from rnnlm.storage import Location

KIND = "most_frequent_tag"


class MostFrequentTagger:
    """A known word gets the tag it was seen with most often, an unknown one the same `unknown_tag`."""

    def __init__(self, words: list[str], tags: list[str], tag_ids: Numbers, unknown_tag: str) -> None:
        """Word i gets the tag numbered `tag_ids[i]`."""
        self.words, self.tags, self.tag_ids, self.unknown_tag = words, tags, tag_ids, unknown_tag
        self._tag = dict(zip(words, (tags[number] for number in tag_ids.tolist()), strict=True))

    @classmethod
    def fit(
        cls, sentences: Sentences, labels: Sentences, *, unknown: Literal["all", "once"] = "all"
    ) -> "MostFrequentTagger":
        """`unknown` says which words lend their most frequent tag to unknown words: all, or those seen only once,
        which are most like them (all, if there is none). Of tags as frequent, the one more frequent overall wins."""
        found = Lexicon.count(sentences, labels)
        overall = found.tag_counts
        rising = np.lexsort((overall[found.tag_ids], found.counts, found.owners))
        once = np.bincount(found.tag_ids[(found.word_counts == 1)[found.owners]], minlength=len(found.tags))
        lender = once if unknown == "once" and once.any() else overall
        best = found.tag_ids[rising][found.offsets[1:] - 1]
        return cls(found.words, found.tags, best, found.tags[int(np.argmax(lender))])

    def tag(self, sentences: Sentences) -> list[list[str]]:
        """A tag for each word of each sentence."""
        return [[self._tag.get(word, self.unknown_tag) for word in words] for words in sentences]

    def save(self, location: Location) -> None:
        """Write the folder `location`."""
        save_baseline(
            location,
            KIND,
            settings={},
            strings={"words": self.words, "tags": self.tags, "unknown_tag": [self.unknown_tag]},
            arrays={"tag_ids": self.tag_ids},
        )

    @classmethod
    def load(cls, location: Location) -> "MostFrequentTagger":
        """Raises CheckpointError with the cure."""
        stored = load_baseline(location, KIND, strings=("words", "tags", "unknown_tag"), arrays=("tag_ids",))
        strings = stored.strings
        return cls(strings["words"], strings["tags"], stored.arrays["tag_ids"], strings["unknown_tag"][0])
