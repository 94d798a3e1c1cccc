"""log P of texts: the probability of a sequence as the product of its tokens' conditional probabilities.

    log P(w1 ... wn) = sum over t of log P(w_t | bos w_1 ... w_{t-1}) + log P(eos | bos w_1 ... w_n)

Each token is scored exactly once, given all before it, whatever its length. For the text "a b":

    input       bos   a     b
    predicted   a     b     eos           num_tokens = 3

Natural logarithms, summed in float64. The result of a row does not depend on the other rows (up to the rounding of
float32 products of another shape, 1e-4 nats a row).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.inference.devices import OnItsWay
from rnnlm.inference.packed import Chunk, Ids, PackedRunner, Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.stream.cache import Cache, CacheConfig, NoCacheConfig
from rnnlm.nn.language_model import LanguageModel
from rnnlm.types import PackedLogprobs

Item = TypeVar("Item")


@dataclass(frozen=True)
class Scores:
    """One entry a document: the sum of log-probabilities (nats), how many, and if asked for each of them."""

    logprob: npt.NDArray[np.float64]
    num_tokens: npt.NDArray[np.int32]
    token_logprobs: list[npt.NDArray[np.float32]] | None


class Scorer:
    """Scores documents with a checkpoint's language model; build it once, it prepares a table of products."""

    def __init__(
        self, checkpoint: Checkpoint, *, cache: CacheConfig | None = None, products: Products | None = None
    ) -> None:
        """With a `cache`, each document has one of its own, empty at its beginning. `products` (default: float32) says
        how the model computes."""
        assert isinstance(checkpoint.model, LanguageModel)
        self.tokenizer = checkpoint.tokenizer
        self._cache = cache or NoCacheConfig()
        self._model = checkpoint.model
        self._weights = (products or Products()).prepare(checkpoint.model.device)
        self._runner = PackedRunner(checkpoint.model, bos_id=self.tokenizer.bos_id, eos_id=self.tokenizer.eos_id)

    def score_texts(self, texts: Sequence[str], *, keep_tokens: bool = False, report: Report = ignore) -> Scores:
        """Scores of texts, in their order."""
        return self.score_tokens(self.tokenizer.encode(texts), keep_tokens=keep_tokens, report=report)

    def score_tokens(self, documents: Sequence[Ids], *, keep_tokens: bool = False, report: Report = ignore) -> Scores:
        """Scores of token ids without bos and eos; an empty document has one prediction, its end.

        `report` is told the share of tokens that is scored, every few thousand.
        """
        lengths = np.array([len(document) + 1 for document in documents], dtype=np.int64)
        logprob = np.zeros(len(documents))
        flat_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.zeros(flat_starts[-1] if keep_tokens else 0, dtype=np.float32)
        scored = 0
        with torch.inference_mode(), self._weights.active():
            parts = self._parts(documents)
            # A GPU has its next part to do before this process waits for the last one's numbers.
            for part in one_ahead(parts) if self._model.device.type == "cuda" else parts:
                values = part.logprobs.numpy()
                # bincount adds in order, in float64: the same sum every time.
                logprob += np.bincount(part.rows, weights=values, minlength=len(documents))
                if keep_tokens:
                    flat[flat_starts[part.rows] + part.times] = values
                scored += len(values)
                report(scored / int(flat_starts[-1]))
        tokens = np.split(flat, flat_starts[1:])[:-1] if keep_tokens else None
        return Scores(logprob, lengths.astype(np.int32), tokens)

    def _parts(self, documents: Sequence[Ids]) -> Iterator["_Part"]:
        for block in self._runner.blocks(documents):
            caches = {row: self._cache.open() for row in block.rows.tolist()}
            for chunk in self._runner.run(documents, block):
                found = self._model.softmax.logprobs(chunk.hidden, chunk.targets)
                yield _Part(chunk.rows, chunk.times, OnItsWay(_with_caches(caches, chunk, found)))


@dataclass(frozen=True)
class _Part:
    """Row and time of some positions, and their log-probabilities."""

    rows: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    logprobs: OnItsWay


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each given when the one behind it has been made."""
    for before in items:
        for item in items:
            yield before
            before = item
        yield before


def _with_caches(caches: Mapping[int, Cache | None], chunk: Chunk, logprobs: PackedLogprobs) -> PackedLogprobs:
    """The chunk's log-probabilities mixed with those of each row's cache."""
    if None in caches.values():
        return logprobs
    mixed = torch.empty_like(logprobs)
    order = np.argsort(chunk.rows, kind="stable")  # positions of a row stay in the order of time
    starts = np.flatnonzero(np.diff(chunk.rows[order], prepend=-1))
    for positions in np.split(order, starts[1:]):
        cache = caches[int(chunk.rows[positions[0]])]
        assert cache is not None
        places = torch.from_numpy(positions).to(logprobs.device)
        mixed[places] = cache.mix(chunk.hidden[places], chunk.targets[places], logprobs[places])
    return mixed
