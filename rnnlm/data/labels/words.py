"""Text as words with character offsets: split by a rule, or given as words and joined.

The rule follows the Penn Treebank where it can without looking beyond a word, and changes no character:

- A word is a run of letters, digits, marks and underscores; inside it an apostrophe, a hyphen, a period or `&` between
  two of them (`O'Brien`, `well-known`, `example.com`, `AT&T`), and between digits also a comma, a colon or a slash
  (`1,234.5`, `10:30`, `1/2`). A sign or a period before a number belongs to it (`-5`, `.5`).
- English clitics are words: `do` `n't`, `John` `'s`, `I` `'d` `'ve`.
- A period at the end is a word of its own, but for abbreviations with periods inside (`U.S.`, `e.g.`, `Ph.D.`) and a
  few titles and companies (ABBREVIATIONS).
- URLs, e-mail addresses, `@names`, `#tags` and emoticons are words.
- Anything else that is no white space is a word a character, but for runs of periods, of hyphens, of ! and ?, and for
  an emoji with what is joined to it.

Scripts that set no blanks (Chinese, Japanese, Thai) give a word a run of letters: give such text as words.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

ABBREVIATIONS = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Jr", "Sr", "Inc", "Ltd", "Co", "Corp", "vs", "etc")
_CLITIC = re.compile(r"(?<=.)(n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))$", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Words:
    """A text and where its words begin and end, in characters; words do not overlap and are in order."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[str]:
        return (self.text[start:end] for start, end in zip(self.starts, self.ends, strict=True))

    def characters(self, start_word: int, end_word: int) -> tuple[int, int]:
        """Where words `start_word` to `end_word` (exclusive) begin and end in the text."""
        return self.starts[start_word], self.ends[end_word - 1]

    def covering(self, start_char: int, end_char: int) -> tuple[int, int]:
        """The words that hold any of these characters, end exclusive; both are equal if there are none."""
        first, behind = bisect_right(self.ends, start_char), bisect_left(self.starts, end_char)
        return (first, behind) if first < behind else (first, first)


def split_words(text: str) -> Words:
    """The words of a text by the rule of this module."""
    starts, ends = [], []
    for match in _pattern().finditer(text):
        start, end = match.span()
        cuts = [start, *_clitics(match[0], start), end] if match.lastgroup == "word" else [start, end]
        starts.extend(cuts[:-1])
        ends.extend(cuts[1:])
    return Words(text, tuple(starts), tuple(ends))


def join_words(words: Sequence[str]) -> Words:
    """The text that joins words by a blank, and where they are in it. Raises ValueError if a word is empty."""
    starts, ends, place = [], [], 0
    for number, word in enumerate(words):
        if not word:
            raise ValueError(f"word {number + 1} is empty")
        starts.append(place)
        ends.append(place + len(word))
        place += len(word) + 1
    return Words(" ".join(words), tuple(starts), tuple(ends))


def _clitics(word: str, start: int) -> list[int]:
    """Where the clitics at the end of a word begin, if it lies at `start`."""
    cuts: list[int] = []
    end = len(word)
    while match := _CLITIC.search(word, max(0, end - 3), end):  # none is longer
        end = match.start()
        cuts.append(start + end)
    return cuts[::-1]


@cache
def _pattern() -> re.Pattern[str]:
    """One alternative a kind of word, the first that fits counts."""
    sign = rf"[\w{_marks()}]"
    letter = r"[^\W\d_]"
    inner = rf"(?:['\u2019.&\-\u2010\u2011](?={sign})|(?<=\d)[,:/](?=\d))"
    kinds = [
        r"""(?:https?://|ftp://|www\.)[^\s<>"]*[^\s<>"'\u2019.,;:!?)\]}]""",
        r"[\w.+\-]{1,64}@[\w\-]+(?:\.[\w\-]+)+",
        rf"[@#]{sign}+",
        rf"(?<!{sign})(?:[:;=]['^]?[-o~]?[()\[\]{{}}dDpP/\\|*]+|<3|\^_?\^)(?!{sign})",
        rf"(?<!{sign})(?:{'|'.join(ABBREVIATIONS)})\.(?!{sign})",
        rf"(?<!{sign})(?:{letter}{{1,2}}\.){{2,}}(?!{sign})",
        rf"(?<!{sign})['\u2019](?:s|re|ve|ll|d|m)(?!{sign})",
        rf"(?P<word>(?:(?<![^\s(\[$])[+\-]?\.?(?=\d))?{sign}+(?:{inner}{sign}+)*)",
        r"\.{2,}|-{2,}|[!?]{2,}",
        r"\S(?:\u200d\S|[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff])*",
    ]
    return re.compile("|".join(kinds))


def _marks() -> str:
    """Every combining mark but the variation selectors, for a character class: without them half of the scripts of
    India would fall apart."""
    marks = (chr(code) for code in range(0x300, 0x20000) if not 0xFE00 <= code <= 0xFE0F)
    return "".join(mark for mark in marks if unicodedata.category(mark).startswith("M"))
