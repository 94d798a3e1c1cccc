r"""An ARPA file, as SRILM, KenLM's lmplz and many others write n-gram models that back off; plain, .gz, .xz or .zst.

    \data\
    ngram 1=4                      how many n-grams of each order
    ngram 2=2

    \1-grams:
    -1.2  <s>   -0.3               log10 p, the words, and log10 of the back-off weight (1 if there is none)
    ...
    \2-grams:
    -0.5  <s> the
    ...
    \end\

Words are pieces of the tokenizer (`arpa_words.py`). Every context of an n-gram must be listed itself.
"""

import math
from array import array
from collections.abc import Iterator

import numpy as np

from rnnlm.data.files import stamp
from rnnlm.data.formats.text_blocks import CUT_SHORT, scan_lines
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.errors import DataError, Place
from rnnlm.ngram.arpa_words import END, UNKNOWN, arpa_words
from rnnlm.ngram.backoff import BackoffModel, Level
from rnnlm.ngram.counts import Numbers, find
from rnnlm.ngram.write_arpa import IMPOSSIBLE
from rnnlm.storage import open_location

TO_NATURAL = math.log(10)


def read_arpa(path: str, tokenizer: Tokenizer) -> BackoffModel:
    """The model in a file. Raises DataError with file and line."""
    if not open_location(path).exists():
        raise DataError(f"there is no file {path}", todo="check arpa=...")
    words = arpa_words(tokenizer)
    ids = {word.encode(): token for token, word in enumerate(words)}  # of both <unk>, the one of the file
    ids.pop(b"", None)  # a bos that is not eos
    ids.setdefault(b"<UNK>", len(words) - 1)
    lines = _Lines(path)
    levels: list[Level] = []
    for order, count in enumerate(_header(lines), start=1):
        lines.expect(f"\\{order}-grams:")
        section = _Section(lines, order, ids)
        if len(section.logprobs) != count:
            raise lines.error(f"there are {len(section.logprobs):,} {order}-grams, \\data\\ says {count:,}", CUT_SHORT)
        if order == 1:
            levels.append(section.unigrams(len(words)))
            listed = set(section.tokens)
            ids = {word: token for word, token in ids.items() if token in listed}
        else:
            levels.append(section.level(levels))
    lines.expect("\\end\\")
    model = BackoffModel(levels, vocab_size=tokenizer.vocab_size, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
    if tokenizer.eos_id in model.unlisted:
        raise DataError(
            f"{END} has no 1-gram, and the end of every document is predicted",
            where=Place(path),
            todo="estimate the model on lines with their ends, which is what the tools do unless told not to",
        )
    if len(model.unlisted) and not np.isfinite(levels[0].logprobs[-1]):
        raise DataError(
            f"{len(model.unlisted):,} tokens have no 1-gram, {tokenizer.piece(int(model.unlisted[0]))!r} for one, and "
            f"there is no {UNKNOWN} to stand for them",
            where=Place(path),
            todo=f"estimate the model with {UNKNOWN} (lmplz does, ngram-count -unk does)",
        )
    return model


class _Lines:
    """The lines of a file that are not blank, with one of them in view."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = self._numbered()
        self.number, self.line, self._wanted = 0, b"", "\\data\\"
        while self.line != b"\\data\\":  # what stands before is a comment
            self.advance()
        self._wanted = "\\end\\"

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        for block in scan_lines(stamp(self._path), []):
            for number, line in enumerate(block.lines, start=block.before() + 1):
                if line and not line.isspace():
                    yield number, line.rstrip()

    def advance(self) -> bytes:
        """The next line. Raises DataError at the end of the file."""
        try:
            self.number, self.line = next(self._rest)
        except StopIteration:
            raise self.error(f"the file ends before {self._wanted}", CUT_SHORT) from None
        return self.line

    def expect(self, header: str) -> None:
        """Raise DataError unless `header` is the line in view."""
        if self.line != header.encode():
            raise self.error(f"{header} is expected, not {_shown(self.line)}")

    def error(self, problem: str, todo: str = "", *, number: int | None = None) -> DataError:
        """About a line, by default the one in view."""
        return DataError(problem, where=Place(self._path, line=number or self.number or None), todo=todo)


def _header(lines: _Lines) -> list[int]:
    r"""The counts below \data\."""
    counts: list[int] = []
    while not lines.advance().startswith(b"\\"):
        left, _, count = lines.line.partition(b"=")
        if left.split() != [b"ngram", b"%d" % (len(counts) + 1)] or not count.strip().isdigit():
            raise lines.error(f"'ngram {len(counts) + 1}=' and a count are expected, not {_shown(lines.line)}")
        counts.append(int(count))
    if not counts:
        raise lines.error(
            "\\data\\ says of no order how many n-grams there are", "was it written by an n-gram toolkit?"
        )
    return counts


class _Section:
    """The n-grams of one order as they stand in the file: ids of their words, and numbers."""

    def __init__(self, lines: _Lines, order: int, ids: dict[bytes, int]) -> None:
        self._lines, self._order = lines, order
        self.tokens, self._numbers = array("i"), array("q")
        self.logprobs, self.backoffs = array("d"), array("d")
        while not lines.advance().startswith(b"\\"):
            fields = lines.line.split()
            if not order + 1 <= len(fields) <= order + 2:
                raise lines.error(
                    f"log10 p, {order} word{'s' if order > 1 else ''} and perhaps a back-off weight are needed, the "
                    f"line has {len(fields)} fields"
                )
            self.logprobs.append(self._number(fields[0], most=0.0))
            self.backoffs.append(self._number(fields[-1]) if len(fields) == order + 2 else 0.0)
            try:
                self.tokens.extend([ids[word] for word in fields[1 : order + 1]])
            except KeyError as error:
                raise self._unknown(error.args[0]) from None
            self._numbers.append(lines.number)

    def _number(self, text: bytes, most: float = math.inf) -> float:
        try:
            value = float(text)
        except ValueError:
            raise self._lines.error(f"not a number: {_shown(text)}") from None
        if not value <= most or value == math.inf:
            raise self._lines.error(
                f"{_shown(text)} is not the log10 of a {'probability' if most == 0.0 else 'weight'}"
            )
        return max(value, IMPOSSIBLE) * TO_NATURAL

    def _unknown(self, word: bytes) -> DataError:
        if self._order > 1:
            return self._lines.error(f"{_shown(word)} is not listed among the 1-grams")
        return self._lines.error(
            f"{_shown(word)} is not a piece of the tokenizer",
            "estimate the model on text that is written in the pieces of tokenizer_path",
        )

    def unigrams(self, base: int) -> Level:
        """Order 1 by id; the beginning of a document is never predicted."""
        tokens = np.array(self.tokens, dtype=np.int64)
        self._refuse_twice(tokens)
        logprobs, backoffs = np.full(base, -np.inf), np.zeros(base)
        logprobs[tokens], backoffs[tokens] = self.logprobs, self.backoffs
        logprobs[base - 2] = -np.inf
        return Level(np.arange(base), logprobs, backoffs)

    def level(self, levels: list[Level]) -> Level:
        """A higher order, above those that are given."""
        base = len(levels[0].keys)
        tokens = np.array(self.tokens, dtype=np.int64).reshape(-1, self._order)
        contexts = tokens[:, 0]
        for shorter, following in zip(levels[1:], tokens[:, 1:-1].T, strict=True):
            contexts = find(shorter.keys, contexts * base + following)
            for row in np.flatnonzero(contexts < 0)[:1].tolist():
                raise self._lines.error(
                    f"the context of this {self._order}-gram is not listed among shorter n-grams",
                    "write the file with the tool's option that keeps contexts of n-grams",
                    number=self._numbers[row],
                )
        keys = contexts * base + tokens[:, -1]
        self._refuse_twice(keys)
        places = np.argsort(keys)
        return Level(keys[places], np.array(self.logprobs)[places], np.array(self.backoffs)[places])

    def _refuse_twice(self, keys: Numbers) -> None:
        places = np.argsort(keys, kind="stable")
        for again in places[1:][np.diff(keys[places]) == 0][:1].tolist():
            raise self._lines.error(f"this {self._order}-gram is listed twice", number=self._numbers[again])


def _shown(text: bytes) -> str:
    return repr(text[:80].decode(errors="replace"))
