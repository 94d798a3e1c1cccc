"""Texts written in the configuration itself: a few prompts, with no file behind them."""

from typing import Any

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.formats.base import CorpusConfig, Listing, Unit

NAME = "corpus.texts"


@config
class InlineCorpus(CorpusConfig):
    """The texts of `texts`; an empty one, as a prompt, starts from nothing."""

    texts: list[str] = Field(default_factory=lambda: [""])
    "The rows."

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "texts": self.texts}

    def list_units(self) -> Listing:
        num_bytes = sum(len(text.encode()) for text in self.texts)
        schema = pa.schema([(self.text_column, pa.string())])
        return Listing((), (Unit(NAME, 0, len(self.texts), num_bytes),), schema)

    def read_unit(self, unit: Unit, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:  # noqa: ARG002
        table = pa.table([pa.array(self.texts, pa.string())], schema=schema)
        return table if columns is None else table.select(columns)
