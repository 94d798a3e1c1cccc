"""What a training run is made of: settings, data, and how it talks to its surroundings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from rnnlm.config import PlacedError, config
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.tasks.base import BatchingConfig, Table, TaskConfig
from rnnlm.tasks.batching import LanesConfig
from rnnlm.training.averaging import AveragingConfig, NoAveragingConfig
from rnnlm.training.metrics import Row
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.optimizers.base import OptimizerConfig
from rnnlm.training.schedules import CosineConfig, ScheduleConfig


@config
class LoopConfig:
    """How long to train, and when to look, save and stop."""

    max_epochs: float = Field(default=1.0, gt=0.0)
    "Passes over the training data; fractions are fine."
    max_steps: int | None = Field(default=None, ge=1)
    "Steps in all; overrides max_epochs."
    max_minutes: float | None = Field(default=None, gt=0.0)
    "Minutes of steps and validations after which the run ends where it is; null for no limit. Depends on the machine."
    patience: int | None = Field(default=None, ge=1)
    "Validations in a row without a better one after which the run ends; null for no limit."
    accumulate: int = Field(default=1, ge=1)
    "Batches whose gradients add up to one step: the effect of larger batches in the memory of one."
    clip_norm: float = Field(default=1.0, gt=0.0)
    "The global norm that gradients are scaled down to."
    precision: Literal["float32", "bfloat16"] = "float32"
    "Of the large matrix products in training and validation; weights, sums and optimizer stay in float32."
    log_every_steps: int = Field(default=20, ge=1)
    "Steps between rows of metrics.jsonl."
    valid_every_steps: int | None = Field(default=None, ge=1)
    "Steps between validations; null for ten in the run."
    valid_lanes: int = Field(default=32, ge=1)
    "Lanes of the validation stream; 1 is the standard, more are faster."
    save_every_steps: int | None = Field(default=None, ge=1)
    "Steps between checkpoints; null saves with every validation."


@config
class TrainingConfig:
    """All that decides the outcome of a training run, the data apart."""

    task: TaskConfig
    "What is trained."
    batching: BatchingConfig = Field(default_factory=LanesConfig)
    "How the data is laid out in batches."
    optimizer: OptimizerConfig = Field(default_factory=AdamWConfig)
    "How parameters follow gradients."
    schedule: ScheduleConfig = Field(default_factory=CosineConfig)
    "How the learning rate moves."
    averaging: AveragingConfig = Field(default_factory=NoAveragingConfig)
    "Which average of the weights is validated and kept."
    loop: LoopConfig = Field(default_factory=LoopConfig)
    "How long to train, and when to look, save and stop."
    seed: int = Field(default=1, ge=0)
    "Root of all randomness."

    def __post_init__(self) -> None:
        wanted = self.task.batching_type
        if not isinstance(self.batching, wanted):
            raise PlacedError(
                "batching",
                f"{type(self.task).__name__} cannot learn from {type(self.batching).__name__}; "
                f"set batching={wanted.choices}",
            )


@dataclass(frozen=True)
class TrainingData:
    """Tokenized documents to learn from and to look at, and who tokenized them."""

    train: Table
    valid: Table
    tokenizer: Tokenizer


@dataclass(frozen=True)
class TrainingSummary:
    """What a finished run has to say."""

    steps: int
    tokens: int
    wall_seconds: float
    best_step: int
    best_valid_nll: float  # nats a target
    num_parameters: int


@dataclass
class Hooks:
    """How the loop talks to its surroundings; the defaults keep silent and never stop."""

    on_row: Callable[[Row, int], None] = lambda row, total_steps: None  # noqa: ARG005 - a row was logged
    should_stop: Callable[[], bool] = lambda: False  # asked after every step
