"""The corpora every machine already has: the standard library of the Python that runs this."""

import platform
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.files import FileStamp
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.listing import Unit
from rnnlm.data.stdlib import CORPUS_VERSION, build_stdlib_corpus
from rnnlm.data.stdlib_functions import FUNCTIONS_VERSION, build_functions_corpus
from rnnlm.storage import Location, open_location


@config
class StdlibCorpus(CorpusConfig):
    """Documentation, docstrings and sources of CPython's standard library; built on first use, then read as Parquet."""

    folder: str = "outputs/corpus"
    "Where the Parquet files are built, below a folder named after the Python version."
    split: Literal["train", "valid", "test", "all"] = Field(default="train")
    "Which part; a module is in one part as a whole."

    def location(self) -> Location:
        """The folder of this Python version's corpus."""
        return open_location(self.folder).join(f"stdlib-{_python()}-v{CORPUS_VERSION}")

    def build(self, folder: Location) -> None:
        """Make the corpus."""
        build_stdlib_corpus(folder)

    def card(self) -> dict[str, Any]:
        found: dict[str, Any] = self.location().join("card.json").read_json()
        return found

    def list_files(self) -> list[FileStamp]:
        folder = self.location()
        if not folder.join("card.json").exists():
            self.build(folder)
        return self._parquet().list_files()

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        return self._parquet().scan_file(file)

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return self._parquet().merge_schemas(schemas)

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        return self._parquet().read_batches(unit, schema, start=start, stop=stop)

    def _parquet(self) -> ParquetCorpus:
        splits = ("train", "valid", "test") if self.split == "all" else (self.split,)
        paths = [self.location().join(f"{split}.parquet") for split in splits]
        return ParquetCorpus(path=[file.address for file in paths], text_column=self.text_column)


@config
class StdlibFunctionsCorpus(StdlibCorpus):
    """Functions of CPython's standard library with the first sentence of their docstring; built on first use."""

    text_column: str = "source"
    "Name of the column that holds the text: source, summary or name_words."

    def location(self) -> Location:
        return open_location(self.folder).join(f"stdlib-functions-{_python()}-v{FUNCTIONS_VERSION}")

    def build(self, folder: Location) -> None:
        build_functions_corpus(folder)


def _python() -> str:
    return f"{platform.python_implementation().lower()}-{platform.python_version()}"
