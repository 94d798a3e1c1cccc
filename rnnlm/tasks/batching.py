"""How data is laid out in batches: running text in lanes with truncated, or by documents with full back-propagation;
pairs and labelled rows with those of like length together."""

from abc import abstractmethod
from typing import ClassVar

from pydantic import Field

from rnnlm.config import config
from rnnlm.data.document_stream import DocumentStream
from rnnlm.data.stream import LaneStream
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import ConfigError
from rnnlm.tasks.base import BatchingConfig, Stream


@config
class TextBatchingConfig(BatchingConfig):
    """Base of layouts of running text."""

    choices: ClassVar[str] = "lanes or documents"

    @abstractmethod
    def open(self, table: TokenTable, tokenizer: Tokenizer, *, seed: int, rank: int, world_size: int) -> Stream:
        """This rank's part of the batches."""

    @property
    @abstractmethod
    def carried_rows(self) -> int:
        """Rows of a batch, over all workers, whose state goes on in the next batch; 0 if each begins anew."""


@config
class LanesConfig(TextBatchingConfig):
    """Contiguous lanes with carried state, for language models."""

    num_lanes: int = Field(default=64, ge=1)
    "Lanes over all workers; the batch size of a step."
    window: int = Field(default=64, ge=1)
    "Steps back-propagated through (BPTT)."
    jitter: float = Field(default=0.0, ge=0.0)
    "Standard deviation of the windows' lengths, in steps; one in twenty is then half as long. 0 keeps all the same."
    shuffle: bool = True
    "Draw a new order of the documents in every epoch; false where consecutive documents belong together."
    fresh_state_at_documents: bool = True
    "Where a window begins with a new document, begin with the initial state instead of the carried one."

    def problems(self, world_size: int) -> list[str]:
        return _uneven("num_lanes", self.num_lanes, "lanes", world_size)

    def open(self, table: TokenTable, tokenizer: Tokenizer, *, seed: int, rank: int, world_size: int) -> LaneStream:
        if self.num_lanes > table.num_targets:
            raise ConfigError(
                f"batching.num_lanes: {self.num_lanes:,} lanes are more than the {table.num_targets:,} targets of the "
                f"training data; take fewer lanes or more data"
            )
        return LaneStream(
            table,
            num_lanes=self.num_lanes,
            window=self.window,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            seed=seed,
            shuffle=self.shuffle,
            fresh=self.fresh_state_at_documents,
            jitter=self.jitter,
            rank=rank,
            world_size=world_size,
        )

    @property
    def carried_rows(self) -> int:
        return self.num_lanes


@config
class DocumentsConfig(TextBatchingConfig):
    """Whole documents, each from the initial state: full back-propagation through time."""

    num_documents: int = Field(default=32, ge=1)
    "Documents of a batch, over all workers."
    longest: int = Field(default=1024, ge=1)
    "Targets after which a document is cut; the next piece begins with the initial state."
    shuffle: bool = True
    "Draw a new order of the documents in every epoch, with equally long ones side by side; false keeps their order."

    def problems(self, world_size: int) -> list[str]:
        return _uneven("num_documents", self.num_documents, "documents", world_size)

    def open(self, table: TokenTable, tokenizer: Tokenizer, *, seed: int, rank: int, world_size: int) -> DocumentStream:
        if self.num_documents > table.num_documents:
            raise ConfigError(
                f"batching.num_documents: a batch of {self.num_documents:,} is more than the {table.num_documents:,} "
                f"documents of the training data; take fewer or more data"
            )
        return DocumentStream(
            table,
            num_documents=self.num_documents,
            longest=self.longest,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            seed=seed,
            shuffle=self.shuffle,
            rank=rank,
            world_size=world_size,
        )

    @property
    def carried_rows(self) -> int:
        return 0


@config
class PairsConfig(BatchingConfig):
    """Batches of pairs of like length, for sequence to sequence."""

    choices: ClassVar[str] = "pairs"

    tokens: int = Field(default=2048, ge=1)
    "Target tokens of a batch over all workers, padding counted."
    max_rows: int | None = Field(default=None, ge=1)
    "Pairs of a batch at most; null for no limit."

    def problems(self, world_size: int) -> list[str]:
        if self.max_rows is not None and self.max_rows < world_size:
            return [f"batching.max_rows: {self.max_rows} pairs are fewer than {world_size} workers"]
        return []


@config
class SentencesConfig(BatchingConfig):
    """Batches of rows of words of like length, for labels."""

    choices: ClassVar[str] = "sentences"

    words: int = Field(default=1024, ge=1)
    "Words of a batch over all workers, padding counted."
    max_rows: int | None = Field(default=None, ge=1)
    "Rows of a batch at most; null for no limit."

    def problems(self, world_size: int) -> list[str]:
        if self.max_rows is not None and self.max_rows < world_size:
            return [f"batching.max_rows: {self.max_rows} rows are fewer than {world_size} workers"]
        return []


def _uneven(field: str, count: int, what: str, world_size: int) -> list[str]:
    if count % world_size:
        return [f"batching.{field}: {count} {what} cannot be dealt evenly to {world_size} workers"]
    return []
