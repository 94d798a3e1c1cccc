"""What a bulk job does with rows: a description that travels to workers, and the processor it builds there."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.plan import CostModel
from rnnlm.config import config
from rnnlm.data.listing import Listing
from rnnlm.errors import ConfigError

ERROR = "error"
NULL_TEXT = "null_text: the text is null"  # the one error that is nobody's fault and is counted apart

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Processed:
    """The new columns of some rows, in their order, and what was counted on the way.

    A row is `ok`, or carries a message `code: what happened` in the `error` column and null in the others.
    """

    columns: dict[str, pa.Array | pa.ChunkedArray]
    num_tokens: int
    num_padding: int = 0  # positions computed that belong to no token


class Processor(ABC):
    """Holds a loaded model; `process` is a pure function of its arguments."""

    hardware = "cpu"  # what computes; bytes are equal on equal hardware
    report: Callable[[float], None] = staticmethod(lambda _: None)
    """To be called now and then with the share of the present call that is done; long calls should."""

    @abstractmethod
    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:
        """New columns for `table`, whose rows have the numbers `rows` in the corpus.

        Whatever it raises is taken for the fault of a row, which is searched for and marked.
        """

    def release_memory(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what is only cached; called when memory ran out, before a smaller piece is tried."""


@config
class WorkConfig:
    """Base of what a job ships to its workers: data only."""

    @property
    @abstractmethod
    def job(self) -> str:
        """Name of the job, for records."""

    @abstractmethod
    def new_fields(self) -> list[pa.Field]:
        """The columns the job adds, `error` last if it has one."""

    @abstractmethod
    def cost(self) -> CostModel:
        """What a row and a byte of text are estimated to take."""

    def weigh(self, listing: Listing) -> Listing:
        """The listing with the sizes of units that `cost` is meant for; text bytes unless a job says otherwise."""
        return listing

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that decides the output, the corpus apart; another identity is another run."""

    @abstractmethod
    def build(self, device: Device) -> Processor:
        """Load the model; called once a worker. `auto` takes a GPU if this process sees one."""

    @property
    def needs_text(self) -> bool:
        """Whether the corpus must have its text column."""
        return True

    @property
    def partition_column(self) -> str | None:
        """The new column by whose values the output is divided into folders `column=value`, if any."""
        return None

    @property
    def partitions(self) -> Sequence[str] | None:
        """The values of the partition column that are written; None writes all."""
        return None

    def encodings(self) -> dict[str, str]:
        """Parquet encodings, by the path of a column, that serve a new column better than a dictionary."""
        return {}

    def provenance(self) -> dict[str, str]:
        """What the footer of each part says of its origin, beside the name of the job."""
        return {}

    def card(self) -> dict[str, Any]:
        """What the report of a run says of the work, beside counts and times."""
        return {}

    def needed_columns(self) -> list[str]:
        """Input columns, beside the text, that the work reads."""
        return []

    def kept_columns(self, names: Sequence[str]) -> list[str]:
        """Those of the input columns `names` that go to the output: all, unless a job says otherwise."""
        return list(names)

    def output_schema(self, schema: pa.Schema, kept: Sequence[str]) -> pa.Schema:
        """The `kept` input columns as they are, then the new ones. Raises ConfigError if a name is taken."""
        new = self.new_fields()
        taken = [field.name for field in new if field.name in kept]
        if taken:
            raise ConfigError(
                f"the corpus already has a column '{taken[0]}', which {self.job} would add; leave it out with "
                f"corpus.columns=[...], or rename it"
            )
        return pa.schema([*(schema.field(name) for name in kept), *new], metadata=schema.metadata)
