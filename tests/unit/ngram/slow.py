"""Interpolated modified Kneser-Ney smoothing as the papers write it: dictionaries, recursion, one n-gram at a time."""

from collections import Counter, defaultdict

BOS = "bos"  # apart from every id, whatever the tokenizer's bos is


class SlowKneserNey:
    """`vocabulary` is what can be predicted; a fallback is taken as rnnlm.ngram.discounts says."""

    def __init__(self, documents, *, order, vocabulary, eos, fallback):
        self.order, self.vocabulary = order, list(vocabulary)
        framed = [[BOS, *map(int, document), eos] for document in documents]
        occurrences = Counter()
        for tokens in framed:
            for begin in range(len(tokens)):
                for end in range(begin + 1, min(begin + order, len(tokens)) + 1):
                    occurrences[tuple(tokens[begin:end])] += 1
        del occurrences[BOS,]  # is never predicted
        before = defaultdict(set)
        for ngram in occurrences:
            before[ngram[1:]].add(ngram[0])
        self.adjusted = {
            ngram: count if len(ngram) == order or ngram[0] == BOS else len(before[ngram])
            for ngram, count in occurrences.items()
        }
        self.discounts = [self._discounts(length, fallback) for length in range(1, order + 1)]

    def _discounts(self, length, fallback):
        t = Counter(count for ngram, count in self.adjusted.items() if len(ngram) == length)
        if not (t[1] and t[2] and t[3]):
            return [0.0, *fallback]
        y = t[1] / (t[1] + 2 * t[2])
        found = [0.0, *(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))]
        return found if all(0 <= found[k] <= k for k in (1, 2, 3)) else [0.0, *fallback]

    def probability(self, token, history):
        """Of a token after all tokens of its document so far, bos first."""
        history = tuple(history)[len(history) - min(len(history), self.order - 1) :]
        return self._interpolated(token, history)

    def _interpolated(self, token, history):
        after = {word: self.adjusted.get((*history, word), 0) for word in self.vocabulary}
        total = sum(after.values())
        lower = self._interpolated(token, history[1:]) if history else 1 / len(self.vocabulary)
        if not total:
            return lower
        discount = self.discounts[len(history)]
        left = sum(discount[min(count, 3)] for count in after.values()) / total
        return (after[token] - discount[min(after[token], 3)]) / total + left * lower
