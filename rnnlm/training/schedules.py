"""Learning rate schedules: pure functions of the step, so that resuming at step t is the same as running to it.

With s the step (from 0), S all steps, w the steps of warm-up and p = (s - w) / (S - w) the progress after them:

    warm-up               (s + 1) / (w + 1)            below w, in all but one_cycle
    constant              1
    linear                1 - p
    cosine                (1 + cos(pi p)) / 2
    warmup_stable_decay   1, then 1 - x or 1 - sqrt(x) with x from 0 to 1 over the last share
    inverse_sqrt          sqrt((w + 1) / (s + 1))
    one_cycle             up and down in lines, then far below the start

What falls to zero here falls to `final_factor` instead.
"""

import math
from abc import abstractmethod
from typing import Literal

from pydantic import Field

from rnnlm.config import config


@config
class ScheduleConfig:
    """Base of the configs in conf/schedule."""

    @abstractmethod
    def factor(self, step: int, total_steps: int) -> float:
        """What the peak learning rate is multiplied by in `step` (from 0) of `total_steps`."""


@config
class WarmupConfig(ScheduleConfig):
    """Base of the schedules that begin with a linear rise."""

    warmup_steps: int = Field(default=100, ge=0)
    "Steps over which the factor rises linearly to 1."

    def warmup(self, total_steps: int) -> int:
        """Steps of warm-up; a short run still warms up, over a tenth of its steps."""
        return min(self.warmup_steps, total_steps // 10)

    def factor(self, step: int, total_steps: int) -> float:
        warmup = self.warmup(total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.after_warmup(step, total_steps)

    @abstractmethod
    def after_warmup(self, step: int, total_steps: int) -> float:
        """The factor from the last step of warm-up on, where it is 1."""


@config
class DecayConfig(WarmupConfig):
    """Base of the schedules that depend only on how much of the run is over."""

    def after_warmup(self, step: int, total_steps: int) -> float:
        warmup = self.warmup(total_steps)
        return self.decay((step - warmup) / max(1, total_steps - warmup))

    @abstractmethod
    def decay(self, progress: float) -> float:
        """The factor after warm-up; `progress` runs from 0 to 1."""


@config
class CosineConfig(DecayConfig):
    """Half a cosine from 1 down to `final_factor` (Loshchilov & Hutter 2017)."""

    final_factor: float = Field(default=0.05, ge=0.0, le=1.0)
    "Where it ends."

    def decay(self, progress: float) -> float:
        falling = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        return self.final_factor + (1.0 - self.final_factor) * falling


@config
class ConstantConfig(DecayConfig):
    """The peak rate to the end."""

    def decay(self, progress: float) -> float:  # noqa: ARG002 - the same at all times
        return 1.0


@config
class LinearConfig(DecayConfig):
    """A line from 1 down to `final_factor`."""

    final_factor: float = Field(default=0.0, ge=0.0, le=1.0)
    "Where it ends."

    def decay(self, progress: float) -> float:
        return _line(1.0, self.final_factor, progress)


@config
class WarmupStableDecayConfig(DecayConfig):
    """The peak rate for most of the run, then down to `final_factor` (Zhai et al. 2022; Hu et al. 2024).

    Until the decay begins nothing depends on the length of the run.
    """

    decay_share: float = Field(default=0.2, gt=0.0, le=1.0)
    "Share of the steps after warm-up in which the factor falls."
    shape: Literal["linear", "sqrt"] = "linear"
    "Along a line, or as 1 - sqrt(x), which falls faster at first (Haegele et al. 2024)."
    final_factor: float = Field(default=0.0, ge=0.0, le=1.0)
    "Where it ends."

    def decay(self, progress: float) -> float:
        fallen = min(1.0, max(0.0, (progress - (1.0 - self.decay_share)) / self.decay_share))
        return _line(1.0, self.final_factor, math.sqrt(fallen) if self.shape == "sqrt" else fallen)


@config
class InverseSqrtConfig(WarmupConfig):
    """Falling with the root of the step; the length of the run does not matter (Vaswani et al. 2017)."""

    def after_warmup(self, step: int, total_steps: int) -> float:
        return math.sqrt((self.warmup(total_steps) + 1) / (step + 1))


@config
class OneCycleConfig(ScheduleConfig):
    """Up and down in two lines of equal length, then far below the start (Smith 2018).

    Only the rate cycles; Smith's momentum, which falls while the rate rises, stays as it is.
    """

    initial_factor: float = Field(default=0.1, gt=0.0, le=1.0)
    "Where the cycle begins and ends."
    cycle_share: float = Field(default=0.9, gt=0.0, le=1.0)
    "Share of the run that the cycle takes, rise and fall together."
    final_factor: float = Field(default=0.001, ge=0.0, le=1.0)
    "Where the line after the cycle ends."

    def factor(self, step: int, total_steps: int) -> float:
        half = int(total_steps * self.cycle_share / 2)
        if step < half:
            return _line(self.initial_factor, 1.0, step / half)
        if step <= 2 * half:  # a run too short for a rise begins at the peak
            return _line(1.0, self.initial_factor, (step - half) / max(1, half))
        return _line(self.initial_factor, self.final_factor, (step - 2 * half) / max(1, total_steps - 2 * half))


def _line(start: float, end: float, progress: float) -> float:
    """From `start` to `end`, and level from there on."""
    return start + (end - start) * min(1.0, progress)
