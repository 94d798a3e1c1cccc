"""Bulk work without a model: what is left is the engine."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, Device, Processed, Processor, WorkConfig
from rnnlm.config import config


@config
class NoopWork(WorkConfig):
    """Adds the number of each row, and no error."""

    @property
    def job(self) -> str:
        return "noop"

    def new_fields(self) -> list[pa.Field]:
        return [pa.field("row", pa.int64()), pa.field(ERROR, pa.string())]

    def cost(self) -> CostModel:
        return CostModel(seconds_per_row=0.0, seconds_per_byte=2e-8)

    def identity(self) -> dict[str, object]:
        return {}

    def build(self, device: Device) -> "NoopProcessor":  # noqa: ARG002 - the interface
        return NoopProcessor()


class NoopProcessor(Processor):
    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - the interface
        return Processed({"row": pa.array(rows), ERROR: pa.nulls(len(rows), pa.string())}, 0)
