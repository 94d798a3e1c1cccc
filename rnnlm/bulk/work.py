"""What a bulk job does with rows: a description that travels to workers, and the processor it builds there."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rnnlm.bulk.plan import CostModel
from rnnlm.config import config
from rnnlm.errors import ConfigError

ERROR = "error"


@dataclass(frozen=True)
class Processed:
    """The new columns of some rows, in their order, and what was counted on the way.

    A row is `ok`, or carries a message in the `error` column and null in the others.
    """

    columns: dict[str, pa.Array]
    num_tokens: int


class Processor(ABC):
    """Holds a loaded model; `process` is a pure function of its arguments."""

    @abstractmethod
    def process(self, table: pa.Table, first_row: int) -> Processed:
        """New columns for `table`, whose first row is row `first_row` of the corpus."""


@config
class WorkConfig:
    """Base of what a job ships to its workers: data only."""

    @property
    @abstractmethod
    def job(self) -> str:
        """Name of the job, for records."""

    @abstractmethod
    def new_fields(self) -> list[pa.Field]:
        """The columns the job adds, `error` last."""

    @abstractmethod
    def cost(self) -> CostModel:
        """What a row and a byte of text are estimated to take."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that decides the output, the corpus apart; another identity is another run."""

    @abstractmethod
    def build(self) -> Processor:
        """Load the model; called once a worker."""

    def provenance(self) -> dict[str, str]:
        """What the footer of each part says of its origin, beside the name of the job."""
        return {}

    def kept_columns(self, schema: pa.Schema) -> list[str]:
        """The input columns that go to the output: all, unless a job says otherwise."""
        return list(schema.names)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Input columns as they are, then the new ones. Raises ConfigError if a name is taken."""
        kept = self.kept_columns(schema)
        new = self.new_fields()
        taken = [field.name for field in new if field.name in kept]
        if taken:
            raise ConfigError(
                f"the corpus already has a column '{taken[0]}', which {self.job} would add; rename it or drop it first"
            )
        return pa.schema([*(schema.field(name) for name in kept), *new], metadata=schema.metadata)
