"""How often each word was seen with each tag: all that a tagger of single words knows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from rnnlm.errors import DataError

Numbers = npt.NDArray[np.int64]
Sentences = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Lexicon:
    """Words and tags in sorted order. Word i was seen with `tag_ids[offsets[i] : offsets[i + 1]]`, ascending, as often
    as `counts` says at the same places."""

    words: list[str]
    tags: list[str]
    offsets: Numbers
    tag_ids: Numbers
    counts: Numbers

    @classmethod
    def count(cls, sentences: Sentences, labels: Sentences) -> "Lexicon":
        """Raises DataError where words and tags do not pair up, or if there is none."""
        if len(sentences) != len(labels):
            raise DataError(f"{len(sentences)} sentences and {len(labels)} rows of tags", todo="give one a sentence")
        for row, (words, tags) in enumerate(zip(sentences, labels, strict=True)):
            if len(words) != len(tags):
                raise DataError(f"sentence {row} has {len(words)} words and {len(tags)} tags", todo="give one a word")
        seen = Counter(zip(chain.from_iterable(sentences), chain.from_iterable(labels), strict=True))
        if not seen:
            raise DataError("there is no tagged word to learn from", todo="give sentences that have some")
        tags = sorted({tag for _, tag in seen})
        place = {tag: number for number, tag in enumerate(tags)}
        entries = sorted(seen.items())
        entries_per_word = Counter(word for (word, _), _ in entries)  # in the order of the entries
        return cls(
            words=list(entries_per_word),
            tags=tags,
            offsets=np.cumsum([0, *entries_per_word.values()]),
            tag_ids=np.array([place[tag] for (_, tag), _ in entries]),
            counts=np.array([count for _, count in entries]),
        )

    @property
    def owners(self) -> Numbers:
        """The word of each entry."""
        return np.repeat(np.arange(len(self.words)), np.diff(self.offsets))

    @property
    def word_counts(self) -> Numbers:
        return np.add.reduceat(self.counts, self.offsets[:-1])

    @property
    def tag_counts(self) -> Numbers:
        return np.bincount(self.tag_ids, weights=self.counts, minlength=len(self.tags)).astype(np.int64)
