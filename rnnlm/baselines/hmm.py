"""A second-order hidden Markov model for tagging, as in Brants (2000), "TnT - A Statistical Part-of-Speech Tagger".

With words w1 ... wn, tags t1 ... tn, and a boundary tag that stands twice before a sentence (t(-1), t0) and once after
it (t(n+1)):

    p(w, t) = prod_{i=1..n} P(ti | t(i-2), t(i-1)) P(wi | ti)  *  P(t(n+1) | t(n-1), tn)

Transitions interpolate maximum likelihood estimates, each of them from counts f over N outcomes:

    P(c | a, b) = l1 f(c) / N + l2 f(b, c) / f(b) + l3 f(a, b, c) / f(a, b)             l1 + l2 + l3 = 1

An unseen history (a, b) leaves its weight to the other two in proportion, so every P(. | a, b) adds up to one. The
weights come from deleted interpolation: each trigram votes, f(a, b, c) times, for the estimate that would be highest
had it been seen once less. Brants ends a sentence with P(t(n+1) | tn); the trigram makes that end a transition
like any other.

Emissions of known words are P(w | t) = f(w, t) / f(t), so a known word has only the tags it was seen with. For an
unknown word they follow from its last letters by Bayes' rule, P(w | t) = P(t | w) P(w) / P(t), where P(t | w) is by
successive abstraction over the suffixes l(m) ... l1 of rare words, from none to the longest that was seen,

    P(t | li ... l1) = (f(t, li ... l1) / f(li ... l1) + theta P(t | l(i-1) ... l1)) / (1 + theta),

apart for words that begin with a capital letter and for those that do not, and P(w) counts as one word among all that
were seen. That last is the same for all tags: it matters for log-probabilities only, which add up to one over known
words alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rnnlm.baselines.base import BaselineConfig, BaselineTagger, Floats
from rnnlm.baselines.lexicon import Lexicon, Numbers, Sentences
from rnnlm.baselines.store import load_baseline, save_baseline
from rnnlm.config import config, from_dict, to_dict
from rnnlm.data.labelled import LabelledRows
from rnnlm.errors import ConfigError, DataError
from rnnlm.storage import Location

MAX_TAGS = 256  # transitions are dense: (256 + 1)^3 float64 are 136 MB, and held twice

Candidates = tuple[Numbers, Floats]  # the tags that a word can have, and the log of P(word | tag) for each


@config
class HMMConfig(BaselineConfig):
    """A trigram tagger. `theta: null` and `lower_first: false` are the paper's."""

    tunable: ClassVar = ("theta", (0.03, 0.1, 0.3, 1.0, 3.0, 10.0))

    max_suffix: int = Field(default=10, ge=0)
    "Longest suffix, in characters, that tells something about unknown words."
    max_rare: int = Field(default=10, ge=1)
    "Words seen up to so often lend their suffixes to unknown words."
    theta: float | None = Field(default=1.0, ge=0.0)
    """Weight of the next shorter suffix; null: the standard deviation of P(t) over the tags, mostly below 0.1, which
    trusts long suffixes seen once or twice. 1.0 was best on the dev set of UD English EWT."""
    lower_first: bool = True
    "Whether a sentence's first word, if unknown, is looked up in lower case: its capital letter may mean nothing."

    def fit(self, rows: LabelledRows, *, multi_label: bool = False) -> "HMMTagger":  # noqa: ARG002 - words have one each
        if rows.of_rows:
            raise ConfigError("baseline: hmm labels words, these are classes of rows; take bag_of_words")
        return HMMTagger.fit(rows.words, rows.labels, self)


class HMMTagger(BaselineTagger):
    """Counts, and the probabilities that follow from them; float64 throughout."""

    kind = "hmm"

    def __init__(self, lexicon: Lexicon, trigrams: Numbers, settings: HMMConfig) -> None:
        """`trigrams[a, b, c]` is how often tag c followed tags a and b; the boundary comes after the last tag."""
        assert trigrams.shape == (len(lexicon.tags) + 1,) * 3
        self.tags, self.settings = lexicon.tags, settings
        self._lexicon, self._trigrams = lexicon, trigrams
        self.weights = deleted_interpolation(trigrams)
        self.transitions = interpolate(trigrams, self.weights)
        self._flat, self._flat_logs = self.transitions.ravel(), np.log(self.transitions).ravel()
        tag_counts = lexicon.tag_counts
        self._word = {word: place for place, word in enumerate(lexicon.words)}
        self._bounds = lexicon.offsets.tolist()
        self._logs = np.log(lexicon.counts / tag_counts[lexicon.tag_ids])
        self._suffixes = Suffixes(lexicon, settings)
        self._all_tags = np.arange(len(self.tags))
        self._log_tag_counts = np.log(tag_counts)  # log(P(t) / P(w)), as P(w) is one in all words

    @classmethod
    def fit(cls, sentences: Sentences, labels: Sentences, settings: HMMConfig | None = None) -> "HMMTagger":
        """Count. Raises DataError where words and tags do not pair up, or if there is none."""
        lexicon = Lexicon.count(sentences, labels)
        boundary = len(lexicon.tags)
        if boundary > MAX_TAGS:
            raise DataError(f"{boundary} tags are too many for trigrams, at most {MAX_TAGS}", todo="use coarser tags")
        place = {tag: number for number, tag in enumerate(lexicon.tags)}
        trigrams = np.zeros((boundary + 1,) * 3, dtype=np.int64)
        for tags in labels:
            framed = np.array([boundary, boundary, *(place[tag] for tag in tags), boundary])
            np.add.at(trigrams, (framed[:-2], framed[1:-1], framed[2:]), 1)
        return cls(lexicon, trigrams, settings or HMMConfig())

    def tag(self, sentences: Sentences) -> list[list[str]]:
        """The most probable tags of each sentence, found exactly (Viterbi 1967)."""
        return [[self.tags[number] for number in self._best(lattice)] for lattice in self._lattices(sentences)]

    def logprobs(self, sentences: Sentences) -> Floats:
        """The natural log-probability of each sentence, over all its taggings (the forward algorithm)."""
        return np.array([self._forward(lattice)[0] for lattice in self._lattices(sentences)], dtype=np.float64)

    def marginals(self, sentences: Sentences) -> list[Floats]:
        """For each sentence the probability of each tag (column) at each word (row) given all words
        (the forward-backward algorithm)."""
        return [self._marginals(lattice) for lattice in self._lattices(sentences)]

    def confidences(self, sentences: Sentences, tags: Sentences) -> list[Floats]:
        """The marginal of each of these tags."""
        place = {tag: number for number, tag in enumerate(self.tags)}
        return [
            found[np.arange(len(found)), np.array([place[tag] for tag in row], dtype=np.int64)]
            for found, row in zip(self.marginals(sentences), tags, strict=True)
        ]

    def save(self, location: Location, trained: Mapping[str, Any] | None = None) -> None:
        """Counts only, from which all else is made again in loading."""
        lexicon, seen = self._lexicon, np.flatnonzero(self._trigrams)
        save_baseline(
            location,
            self.kind,
            settings=to_dict(self.settings),
            strings={"words": lexicon.words, "tags": lexicon.tags},
            arrays={
                "word_offsets": lexicon.offsets,
                "word_tags": lexicon.tag_ids,
                "word_counts": lexicon.counts,
                "trigram_keys": seen,
                "trigram_counts": self._trigrams.ravel()[seen],
            },
            trained=trained,
        )

    @classmethod
    def load(cls, location: Location) -> "HMMTagger":
        names = ("word_offsets", "word_tags", "word_counts", "trigram_keys", "trigram_counts")
        stored = load_baseline(location, cls.kind, strings=("words", "tags"), arrays=names)
        offsets, word_tags, word_counts, keys, counts = (stored.arrays[name] for name in names)
        lexicon = Lexicon(stored.strings["words"], stored.strings["tags"], offsets, word_tags, word_counts)
        size = len(lexicon.tags) + 1
        trigrams = np.zeros((size, size, size), dtype=np.int64)
        trigrams.ravel()[keys] = counts
        return cls(lexicon, trigrams, from_dict(HMMConfig, stored.settings))

    def _lattices(self, sentences: Sentences) -> Iterator[list[Candidates]]:
        """For each sentence what each of its words can be. An unknown word is worked out once a call."""
        unknown: dict[str, Candidates] = {}
        for words in sentences:
            lattice = []
            for position, word in enumerate(words):
                place = self._word.get(word)
                if place is None and position == 0 and self.settings.lower_first:
                    place = self._word.get(word.lower())
                if place is not None:
                    seen = slice(self._bounds[place], self._bounds[place + 1])
                    lattice.append((self._lexicon.tag_ids[seen], self._logs[seen]))
                    continue
                if word not in unknown:
                    unknown[word] = self._guess(word)
                lattice.append(unknown[word])
            yield lattice

    def _guess(self, word: str) -> Candidates:
        """Of an unknown word: every tag that its suffix leaves possible."""
        chance = self._suffixes.distribution(word)
        possible = self._all_tags[chance > 0]  # all of them, unless theta is 0
        return possible, np.log(chance[possible]) - self._log_tag_counts[possible]

    def _steps(self, lattice: list[Candidates], table: Floats) -> Iterator[Floats]:
        """At each word, and at the end, the entries of a flat transition table for (tag two before, tag before, tag),
        of candidates only: most words have one or two, which is what makes exact search quick."""
        boundary, size = len(self.tags), len(self.tags) + 1
        ahead = [tags for tags, _ in lattice]
        last, histories = np.array([boundary]), np.array([[(boundary * size + boundary) * size]])
        for tags in [*ahead, last]:
            yield table.take(histories[:, :, None] + tags)
            last, histories = tags, (last[:, None] * size + tags) * size

    def _best(self, lattice: list[Candidates]) -> list[int]:
        score, pointers = np.zeros((1, 1)), []
        *inner, end = self._steps(lattice, self._flat_logs)
        for step, (_, emission) in zip(inner, lattice, strict=True):
            reached = score[:, :, None] + step
            pointers.append(reached.argmax(axis=0))
            score = reached.max(axis=0) + emission
        before, here = divmod(int((score + end[:, :, 0]).argmax()), score.shape[1])
        found = []
        for pointer, (tags, _) in zip(reversed(pointers), reversed(lattice), strict=True):
            found.append(int(tags[here]))
            before, here = int(pointer[before, here]), before
        return found[::-1]

    def _forward(self, lattice: list[Candidates]) -> tuple[float, list[Floats]]:
        """The log-probability, and at each word the joint probability of all words up to there and of the tags
        (before, here), scaled to add up to one: products over a long sentence would underflow."""
        total, alpha, alphas = 0.0, np.ones((1, 1)), []
        *inner, end = self._steps(lattice, self._flat)
        for step, (_, emission) in zip(inner, lattice, strict=True):
            # Emissions are scaled too: e to the log of one far down the tail may be 0.
            highest = float(emission.max())
            alpha = np.einsum("ab,abc->bc", alpha, step) * np.exp(emission - highest)
            scale = float(alpha.sum())
            alpha /= scale
            total += highest + float(np.log(scale))
            alphas.append(alpha)
        return total + float(np.log((alpha * end[:, :, 0]).sum())), alphas

    def _marginals(self, lattice: list[Candidates]) -> Floats:
        found = np.zeros((len(lattice), len(self.tags)))
        _, alphas = self._forward(lattice)
        *inner, end = self._steps(lattice, self._flat)
        beta = end[:, :, 0]  # probability, up to a factor, of all that follows given the tags (before, here)
        for position in reversed(range(len(lattice))):
            tags, emission = lattice[position]
            here = (alphas[position] * beta).sum(axis=0)
            found[position, tags] = here / here.sum()
            beta = np.einsum("abc,bc->ab", inner[position], beta * np.exp(emission - emission.max()))
            beta /= beta.sum()
        return found


class Suffixes:
    """P(tag | suffix) of rare words, for words never seen."""

    def __init__(self, lexicon: Lexicon, settings: HMMConfig) -> None:
        tag_counts = lexicon.tag_counts
        self._prior = tag_counts / tag_counts.sum()
        self._max_suffix = settings.max_suffix
        spread = float(np.std(self._prior, ddof=1)) if len(tag_counts) > 1 else 0.0
        self.theta = spread if settings.theta is None else settings.theta
        rare = lexicon.word_counts <= settings.max_rare
        self._row: dict[str, int] = {}
        rows, owners = [], []
        for number, place in enumerate(np.flatnonzero(rare).tolist()):
            for suffix in self._suffixes(lexicon.words[place]):
                rows.append(self._row.setdefault(suffix, len(self._row)))
                owners.append(number)
        entries = rare[lexicon.owners]
        of_word = np.zeros((int(rare.sum()), len(tag_counts)), dtype=np.int32)
        of_word[(np.cumsum(rare) - 1)[lexicon.owners[entries]], lexicon.tag_ids[entries]] = lexicon.counts[entries]
        self._counts = np.zeros((len(self._row), len(tag_counts)), dtype=np.int32)
        np.add.at(self._counts, np.array(rows, dtype=np.int64), of_word[np.array(owners, dtype=np.int64)])

    def distribution(self, word: str) -> Floats:
        """P(tag | word), from the longest suffix that was seen."""
        found: Floats = self._prior
        for suffix in self._suffixes(word):
            row = self._row.get(suffix)
            if row is None:
                break
            counts = self._counts[row]
            found = (counts / counts.sum() + self.theta * found) / (1.0 + self.theta)
        return found

    def _suffixes(self, word: str) -> Iterator[str]:
        """From none to the longest, each after a sign for capitalisation, which keeps the two kinds of words apart."""
        sign = "A" if word[:1].isupper() else "a"
        for length in range(min(self._max_suffix, len(word)) + 1):
            yield sign + word[len(word) - length :]


def deleted_interpolation(trigrams: Numbers) -> Floats:
    """The weights of uni-, bi- and trigrams (Brants 2000, figure 1); a tie goes to the shorter history, known better.
    Each begins with one vote, so that no sequence is impossible."""
    bigrams, histories = trigrams.sum(axis=0), trigrams.sum(axis=2)
    unigrams, total = bigrams.sum(axis=0), trigrams.sum()
    a, b, c = np.nonzero(trigrams)
    counts = trigrams[a, b, c]
    estimates = [
        _once_less(unigrams[c], np.full(len(c), total)),
        _once_less(bigrams[b, c], histories.sum(axis=0)[b]),
        _once_less(counts, histories[a, b]),
    ]
    votes = 1.0 + np.bincount(np.argmax(estimates, axis=0), weights=counts, minlength=3)
    return np.asarray(votes / votes.sum())


def interpolate(trigrams: Numbers, weights: Floats) -> Floats:
    """P(c | a, b) for all tags, as an array [a, b, c]."""
    bigrams, histories = trigrams.sum(axis=0), trigrams.sum(axis=2)
    unigram = bigrams.sum(axis=0) / trigrams.sum()
    bigram = bigrams / bigrams.sum(axis=1, keepdims=True)  # every tag is followed by one, or by the boundary
    shorter = weights[0] * unigram + weights[1] * bigram
    seen = histories[:, :, None]
    trigram = np.divide(trigrams, seen, out=np.zeros(trigrams.shape), where=seen > 0)
    return np.asarray(np.where(seen > 0, shorter + weights[2] * trigram, shorter / (weights[0] + weights[1])))


def _once_less(counts: Numbers, histories: Numbers) -> Floats:
    """(f - 1) / (f' - 1), and 0 where that is 0 / 0."""
    return np.asarray(np.divide(counts - 1, histories - 1, out=np.zeros(len(counts)), where=histories > 1))
