"""Batches of words with the spans among them; see `rnnlm.data.labelled_stream` for how rows come together."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from rnnlm.data.labelled_stream import LabelledBatch, LabelledReader, Rows
from rnnlm.data.span_table import SpanTable

SpanIndices = Int[Tensor, "N 4"]


@dataclass(frozen=True)
class SpanBatch(LabelledBatch):
    """`spans` holds one span a row of its own: row of the batch, first word, last word (not behind it), type; int64."""

    spans: SpanIndices


class SpanReader(LabelledReader):
    """Makes batches of the rows of a table of spans."""

    def __init__(self, table: SpanTable, *, pieces: bool = False) -> None:
        super().__init__(table, pieces=pieces)
        self._spans = np.stack([table.starts, table.ends - 1, table.types], axis=1).astype(np.int64)
        self._span_offsets = table.span_offsets

    def read(self, rows: Rows) -> SpanBatch:
        """The batch of some rows; -1 is an empty row."""
        batch = super().read(rows)
        counts = np.where(rows >= 0, np.diff(self._span_offsets)[rows], 0)
        step = np.arange(counts.max())
        places = (self._span_offsets[rows][:, None] + step)[step < counts[:, None]]
        spans = np.column_stack([np.repeat(np.arange(len(rows)), counts), self._spans[places]])
        own = {field.name: getattr(batch, field.name) for field in fields(batch)}
        return SpanBatch(**own, spans=torch.from_numpy(spans))
