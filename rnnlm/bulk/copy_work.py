"""Copying as bulk work: the same rows in the same order, in parts of another size."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import Device, Processed, Processor, WorkConfig
from rnnlm.config import config
from rnnlm.data.listing import Listing

SECONDS_PER_BYTE = 2e-8  # of a compressed file, on one core


@config
class CopyWork(WorkConfig):
    """Adds nothing. A shard costs what its rows take on disk, so that parts get equal sizes."""

    @property
    def job(self) -> str:
        return "compact"

    @property
    def needs_text(self) -> bool:
        return False

    def new_fields(self) -> list[pa.Field]:
        return []

    def cost(self) -> CostModel:
        return CostModel(seconds_per_row=0.0, seconds_per_byte=SECONDS_PER_BYTE)

    def weigh(self, listing: Listing) -> Listing:
        """The size of each unit becomes its share of its file's size."""
        of_file: Counter[Any] = Counter()
        for unit in listing.units:
            of_file[unit.file] += max(1, unit.num_bytes)
        units = (
            replace(unit, num_bytes=round(unit.file.size * max(1, unit.num_bytes) / of_file[unit.file]))
            for unit in listing.units
        )
        return replace(listing, units=tuple(units))

    def identity(self) -> dict[str, Any]:
        return {}

    def build(self, device: Device) -> "CopyProcessor":  # noqa: ARG002 - nothing to compute on a GPU
        return CopyProcessor()


class CopyProcessor(Processor):
    """Does nothing with rows."""

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - the interface
        return Processed({}, 0)
