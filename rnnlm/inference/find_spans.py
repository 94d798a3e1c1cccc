"""Spans of rows of words, which may nest, with their probabilities.

Rows that are read together are of like length and padded to the longest; one that is longer than a batch is read alone
and whole, and needs memory for scores of all its spans (`rnnlm.nn.span_model`). A row's result does not depend on the
other rows, up to the rounding of float32 products of another shape.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import spelling_of, with_spellings_once
from rnnlm.nn.span_model import FoundSpan, SpanModel

BATCH_WORDS = 4096  # words that are read at a time, padding counted
POOL_WORDS = 1 << 18  # words whose rows are sorted by length together; bounds memory


class SpanFinder:
    """Finds spans; build it once."""

    def __init__(
        self, checkpoint: Checkpoint, *, products: Products | None = None, threshold: float = 0.5, flat: bool = False
    ) -> None:
        """`products` (default: float32) says how the model computes; see `rnnlm.nn.span_model` for the others."""
        assert isinstance(checkpoint.model, SpanModel)
        assert isinstance(checkpoint.tokenizer, LabelTokenizer)
        self._model, self._once = with_spellings_once(checkpoint.model)
        self.tokenizer = checkpoint.tokenizer
        self._threshold, self._flat = threshold, flat
        self._weights = (products or Products()).prepare(checkpoint.model.device)
        self.num_padding = 0  # positions computed by the last call that belong to no word

    def find(self, rows: Sequence[Sequence[str]], *, report: Report = ignore) -> list[list[FoundSpan] | None]:
        """The spans of each row in its order; None where a probability is not finite.

        `report` is told the share of words that is done.
        """
        found: list[list[FoundSpan] | None] = [[] for _ in rows]
        done = self.num_padding = 0
        num_words = sum(map(len, rows))
        with torch.inference_mode(), self._weights.active():
            for pool in _pools(rows):
                table = LabelledTable.from_rows([rows[row] for row in pool], None, self.tokenizer)
                for characters in self._once:
                    characters.read(table.spellings)
                reader = LabelledReader(table)
                for places in reader.plan(reader.by_length(np.arange(len(pool))), BATCH_WORDS):
                    for characters in self._once:
                        characters.spelling = spelling_of(table, places)
                    batch = reader.read(places)
                    probabilities = self._model.probabilities(batch)
                    finite = probabilities.isfinite().flatten(1).all(1).tolist()
                    selected = self._model.select(probabilities, batch, threshold=self._threshold, flat=self._flat)
                    for row, spans, good in zip(pool[places].tolist(), selected, finite, strict=True):
                        found[row] = spans if good else None
                    real = int(reader.lengths[places].sum())
                    self.num_padding += batch.words.numel() - real
                    done += real
                report(done / num_words)
        return found


def _pools(rows: Sequence[Sequence[str]]) -> Iterator[npt.NDArray[np.int64]]:
    """Numbers of rows with words that go together until there are POOL_WORDS words."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    some = np.flatnonzero(lengths)
    pool = (np.cumsum(lengths[some]) - 1) // POOL_WORDS
    for begin, end in pairwise([*np.flatnonzero(np.diff(pool, prepend=-1)).tolist(), len(some)]):
        yield some[begin:end]
