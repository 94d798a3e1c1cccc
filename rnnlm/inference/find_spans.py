"""Spans of rows of words, which may nest, with their probabilities.

Rows that are read together are of like length and padded to the longest; one that is longer than a batch is read alone
and whole, and needs memory for scores of all its spans (`rnnlm.nn.span_model`). A row's result does not depend on the
other rows, up to the rounding of float32 products of another shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.span_stream import SpanBatch, SpanReader
from rnnlm.data.span_table import SpanTable
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import in_pools, with_spellings_once
from rnnlm.nn.span_model import FoundSpan, SpanModel
from rnnlm.tasks.word_encoder import in_batches

LEAST = 0.01  # spans that are less probable are no candidates for a threshold


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
            for read in in_pools(rows, self.tokenizer, self._once):
                probabilities = self._model.probabilities(read.batch)
                finite = probabilities.isfinite().flatten(1).all(1).tolist()
                selected = self._model.select(probabilities, read.batch, threshold=self._threshold, flat=self._flat)
                for row, spans, good in zip(read.rows.tolist(), selected, finite, strict=True):
                    found[row] = spans if good else None
                self.num_padding += read.num_padding
                done += int(read.lengths.sum())
                report(done / num_words)
        return found


class Candidates(NamedTuple):
    """Spans that are found with LEAST as the threshold: their probabilities, and whether they are right. `num_right`
    counts the right spans of all rows, found or not."""

    probabilities: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    num_right: int


def candidates(checkpoint: Checkpoint, table: SpanTable) -> Candidates:
    """The spans of held-out rows. Since the most probable are taken first, and a span only gives way to a more probable
    one, a higher threshold finds those of them that are as probable, and no others."""
    model = checkpoint.model
    assert isinstance(model, SpanModel)
    probabilities: list[float] = []
    right: list[bool] = []
    with torch.inference_mode():
        for batch in in_batches(SpanReader(table), np.flatnonzero(np.diff(table.offsets))):
            assert isinstance(batch, SpanBatch)
            known = set(map(tuple, batch.spans.tolist()))
            for row, spans in enumerate(model.decode(batch, threshold=LEAST)):
                probabilities += [span.probability for span in spans]
                right += [(row, span.start, span.end - 1, span.type) in known for span in spans]
    return Candidates(np.array(probabilities), np.array(right, dtype=bool), len(table.types))
