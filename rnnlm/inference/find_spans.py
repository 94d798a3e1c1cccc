"""Spans of rows of words, which may nest, with their probabilities.

Rows that are read together are of like length and padded to the longest; one that is longer than a batch is read alone
and whole, and needs memory for scores of all its spans (`rnnlm.nn.span_model`). A row's result does not depend on the
other rows, up to the rounding of float32 products of another shape.
"""

from collections.abc import Sequence

import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import in_pools, with_spellings_once
from rnnlm.nn.span_model import FoundSpan, SpanModel


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
