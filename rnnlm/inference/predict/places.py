"""Where words are in a text."""

import re
from collections.abc import Sequence

from rnnlm.data.labels.words import Words, join_words

_BLANKS = re.compile(r"\s*")


def places_of(words: Sequence[str], text: str | None) -> Words:
    """Where words are in a text that holds nothing else but white space; else in the words joined by a blank."""
    return (align(words, text) if text is not None else None) or join_words(words)


def align(words: Sequence[str], text: str) -> Words | None:
    """The words from left to right as they stand in a text, or None if there is more in it than white space beside
    them."""
    starts, ends, place = [], [], 0
    for word in words:
        place = _behind_blanks(text, place)
        if not text.startswith(word, place):
            return None
        starts.append(place)
        place += len(word)
        ends.append(place)
    return Words(text, tuple(starts), tuple(ends)) if _behind_blanks(text, place) == len(text) else None


def _behind_blanks(text: str, place: int) -> int:
    """Where the white space that begins at `place` ends."""
    found = _BLANKS.match(text, place)
    assert found is not None
    return found.end()
