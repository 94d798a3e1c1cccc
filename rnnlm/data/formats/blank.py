"""Rows of empty text: prompts for texts that start from nothing, with no file behind them."""

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.formats.base import CorpusConfig, Listing, Unit


@config
class BlankCorpus(CorpusConfig):
    """`rows` rows with an empty text."""

    rows: int = Field(default=16, ge=1)
    "How many."

    def list_units(self) -> Listing:
        schema = pa.schema([(self.text_column, pa.string())])
        return Listing((), (Unit(f"blank corpus of {self.rows} rows", 0, self.rows, 0),), schema)

    def read_unit(self, unit: Unit, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        table = pa.table([pa.array([""] * unit.rows, pa.string())], schema=schema)
        return table if columns is None else table.select(columns)
