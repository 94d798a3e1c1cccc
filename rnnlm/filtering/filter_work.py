"""Filtering as bulk work: every row goes, untouched, to the folder of its partition."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import Device, Processed, Processor, WorkConfig
from rnnlm.config import config
from rnnlm.filtering.partitions import Cuts
from rnnlm.filtering.scan import scores_and_groups


@config
class FilterWork(WorkConfig):
    """Divides a corpus by the score of its rows."""

    score_column: str
    "Column of the score."
    cuts: dict[str, Any]
    "Where the groups are cut: `Cuts.to_dict()`."
    group_by: list[str] = field(default_factory=list)
    "Columns whose values together are the group of a row."
    keep: list[str] | None = None
    "Partitions that are written; null writes all, and the rows without a score."
    column: str = "partition"
    "Name of the new column, and of the folders: `partition=head`."

    @property
    def job(self) -> str:
        return "filter"

    @property
    def needs_text(self) -> bool:
        return False

    @property
    def partition_column(self) -> str:
        return self.column

    @property
    def partitions(self) -> Sequence[str] | None:
        return self.keep

    def new_fields(self) -> list[pa.Field]:
        return [pa.field(self.column, pa.string())]

    def cost(self) -> CostModel:
        return CostModel(seconds_per_row=5e-7, seconds_per_byte=1e-8)

    def identity(self) -> dict[str, Any]:
        names = ("score_column", "group_by", "cuts", "keep", "column")
        return {name: getattr(self, name) for name in names}

    def needed_columns(self) -> list[str]:
        return [self.score_column, *self.group_by]

    def build(self, device: Device) -> "FilterProcessor":  # noqa: ARG002 - nothing to compute on a GPU
        return FilterProcessor(self)


class FilterProcessor(Processor):
    """Assigns rows to partitions."""

    def __init__(self, work: FilterWork) -> None:
        self._work = work
        self._cuts = Cuts.from_dict(work.cuts)

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        scores, groups = scores_and_groups(table, self._work.score_column, self._work.group_by)
        partitions = self._cuts.assign(scores, groups)
        return Processed({self._work.column: pc.cast(partitions, pa.string())}, 0)
