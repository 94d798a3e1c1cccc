"""The trigram tagger as its formulas are written: dictionaries, recursion, every tagging of a sentence."""

import itertools
import math
from collections import Counter

import numpy as np

BOUNDARY = "boundary"  # apart from every tag


class SlowTrigramTagger:
    def __init__(self, sentences, labels, *, max_suffix, max_rare, theta):
        self.max_suffix = max_suffix
        self.trigrams, self.words = Counter(), Counter()
        for words, tags in zip(sentences, labels, strict=True):
            framed = [BOUNDARY, BOUNDARY, *tags, BOUNDARY]
            self.trigrams.update(zip(framed, framed[1:], framed[2:], strict=False))
            self.words.update(zip(words, tags, strict=True))
        self.tags = sorted({tag for _, tag in self.words})
        self.bigrams, self.pairs = Counter(), Counter()  # (b, c) as ending, (a, b) as history
        self.unigrams, self.singles = Counter(), Counter()
        for (a, b, c), count in self.trigrams.items():
            self.bigrams[b, c] += count
            self.pairs[a, b] += count
            self.unigrams[c] += count
            self.singles[b] += count
        self.total = sum(self.unigrams.values())
        self.of_tag = Counter()
        for (_, tag), count in self.words.items():
            self.of_tag[tag] += count
        self.num_words = sum(self.of_tag.values())
        priors = [self.of_tag[tag] / self.num_words for tag in self.tags]
        self.theta = theta if theta is not None else (np.std(priors, ddof=1) if len(priors) > 1 else 0.0)
        times = Counter()
        for (word, _), count in self.words.items():
            times[word] += count
        self.rare = [word for word, count in times.items() if count <= max_rare]
        self.weights = self._deleted_interpolation()

    def _deleted_interpolation(self):
        votes = [1.0, 1.0, 1.0]
        for (a, b, c), count in self.trigrams.items():
            fractions = [
                (self.unigrams[c] - 1, self.total - 1),
                (self.bigrams[b, c] - 1, self.singles[b] - 1),
                (count - 1, self.pairs[a, b] - 1),
            ]
            estimates = [above / below if below else 0.0 for above, below in fractions]
            votes[estimates.index(max(estimates))] += count
        return [vote / sum(votes) for vote in votes]

    def transition(self, a, b, c):
        one, two, three = self.weights
        unigram, bigram = self.unigrams[c] / self.total, self.bigrams[b, c] / self.singles[b]
        if not self.pairs[a, b]:
            return (one * unigram + two * bigram) / (one + two)
        return one * unigram + two * bigram + three * self.trigrams[a, b, c] / self.pairs[a, b]

    def emission(self, word, tag):
        if any((word, other) in self.words for other in self.tags):
            return self.words[word, tag] / self.of_tag[tag]
        return self.by_suffix(word, tag, self._longest(word)) / self.of_tag[tag]

    def _longest(self, word):
        lengths = [n for n in range(min(self.max_suffix, len(word)) + 1) if self._alike(word, n)]
        return max(lengths, default=-1)

    def _alike(self, word, length):
        return [
            other
            for other in self.rare
            if other[:1].isupper() == word[:1].isupper()
            and len(other) >= length
            and other[len(other) - length :] == word[len(word) - length :]
        ]

    def by_suffix(self, word, tag, length):
        if length < 0:
            return self.of_tag[tag] / self.num_words
        alike = self._alike(word, length)
        with_tag = sum(self.words[other, tag] for other in alike)
        total = sum(self.words[other, any_tag] for other in alike for any_tag in self.tags)
        return (with_tag / total + self.theta * self.by_suffix(word, tag, length - 1)) / (1 + self.theta)

    def joint(self, words, tags):
        framed = [BOUNDARY, BOUNDARY, *tags, BOUNDARY]
        transitions = (self.transition(*three) for three in zip(framed, framed[1:], framed[2:], strict=False))
        return math.prod(transitions) * math.prod(map(self.emission, words, tags))

    def every_tagging(self, words):
        return {tags: self.joint(words, tags) for tags in itertools.product(self.tags, repeat=len(words))}
