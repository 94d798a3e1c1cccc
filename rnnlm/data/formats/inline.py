"""Texts written in the configuration itself: a few prompts, with no file behind them."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.files import FileStamp
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.listing import Unit

NAME = "corpus.texts"


@config
class InlineCorpus(CorpusConfig):
    """The texts of `texts`; an empty one, as a prompt, starts from nothing."""

    texts: list[str] = Field(default_factory=lambda: [""])
    "The rows."

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "texts": self.texts}

    def list_files(self) -> list[FileStamp]:
        return [FileStamp(NAME, sum(len(text.encode()) for text in self.texts), 0)]

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        return [Unit(file, 0, len(self.texts), file.size)], pa.schema([(self.text_column, pa.string())])

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return schemas[0][1]

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:  # noqa: ARG002
        table = pa.table({self.text_column: pa.array(self.texts[start:stop], pa.string())})
        yield table.select(schema.names).cast(schema)
