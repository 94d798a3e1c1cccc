"""Learning rate schedules: pure functions of the step, so that resuming at step t is the same as running to it."""

import math
from abc import abstractmethod

from pydantic import Field

from rnnlm.config import config


@config
class ScheduleConfig:
    """Base of the configs in conf/schedule."""

    warmup_steps: int = Field(default=100, ge=0)
    "Steps over which the factor rises linearly to 1."

    def factor(self, step: int, total_steps: int) -> float:
        """What the peak learning rate is multiplied by in `step` (from 0) of `total_steps`."""
        # A short run still warms up, over a tenth of its steps.
        warmup = min(self.warmup_steps, total_steps // 10)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.decay((step - warmup) / max(1, total_steps - warmup))

    @abstractmethod
    def decay(self, progress: float) -> float:
        """The factor after warm-up; `progress` runs from 0 to 1."""


@config
class CosineConfig(ScheduleConfig):
    """Half a cosine from 1 down to `final_factor` (Loshchilov & Hutter 2017)."""

    final_factor: float = Field(default=0.05, ge=0.0, le=1.0)
    "Where it ends."

    def decay(self, progress: float) -> float:
        falling = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        return self.final_factor + (1.0 - self.final_factor) * falling


@config
class ConstantConfig(ScheduleConfig):
    """The peak rate to the end."""

    def decay(self, progress: float) -> float:  # noqa: ARG002 - the same at all times
        return 1.0
