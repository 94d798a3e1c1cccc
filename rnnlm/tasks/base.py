"""What a task gives to the one training loop. The config is the task: it holds no tensors and can be stored as JSON."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.types import State


@dataclass(frozen=True)
class LossSum:
    """Sums over targets, never means: only then do 1, 2 and 8 workers add up to the same gradient.

    `objective` is what is minimised where that is not the nll alone: label smoothing, regularisers.
    """

    nll: Tensor  # float64 scalar, nats
    num_targets: int
    objective: Tensor | None = None  # float64 scalar


@runtime_checkable
class Stream(Protocol):
    """An endless source of batches with a small exact state."""

    epoch: int
    learning_rate_factor: float
    "How large the last batch was beside a usual one; the learning rate of its step shrinks with it."

    @property
    def steps_per_epoch(self) -> int: ...

    def next(self) -> Any: ...

    def state(self) -> dict[str, int]: ...

    def restore(self, state: dict[str, int]) -> None: ...


@config
class BatchingConfig:
    """Base of the configs in conf/batching."""

    choices: ClassVar[str]
    "How the layouts of this kind are called in conf/batching."

    @abstractmethod
    def problems(self, world_size: int) -> list[str]:
        """What speaks against spreading such batches over `world_size` workers; empty if nothing does."""


@runtime_checkable
class Table(Protocol):
    """Tokenized data of a task in memory; `str` of it says how much there is."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that training could see of it."""

    @property
    def num_targets(self) -> int:
        """Predictions to be made."""


@config
class TaskConfig:
    """Base of the configs in conf/task."""

    batching_type: ClassVar[type[BatchingConfig]]
    "The layouts of batches that the task can learn from."

    @abstractmethod
    def build(self, tokenizer: Tokenizer) -> nn.Module:
        """A network with fresh weights, drawn from torch's global generator. Raises ConfigError if the tokenizer does
        not fit."""

    @abstractmethod
    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> Table:
        """The data at `path`, checked against the tokenizer; what is only too much for training stays in validation."""

    def prepare(self, model: nn.Module, table: Table, tokenizer: Tokenizer) -> None:
        """Let fresh weights know the training data; called once, before the first step of a new run."""

    @abstractmethod
    def open_stream(
        self,
        table: Table,
        tokenizer: Tokenizer,
        batching: BatchingConfig,
        *,
        seed: int,
        rank: int,
        world_size: int,
    ) -> Stream:
        """This rank's part of the training data."""

    @abstractmethod
    def initial_state(self, model: nn.Module, batching: BatchingConfig, world_size: int) -> State:
        """What is carried from batch to batch at the start; an empty tuple if nothing is."""

    @abstractmethod
    def num_targets(self, batch: Any) -> int:
        """How many predictions a batch asks for: the `num_targets` of its loss, known before it is computed."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        """The loss of one batch, differentiable, and the state to carry on (detached)."""

    @abstractmethod
    def validate(
        self,
        model: nn.Module,
        table: Table,
        tokenizer: Tokenizer,
        *,
        num_lanes: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> LossSum:
        """This rank's part of the loss over a whole held-out table; no gradient."""
