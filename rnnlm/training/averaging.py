"""Averages of the weights over the steps of a run, which often predict better than the last weights.

    EMA       a_0 = w_0;  a_t = d_t a_{t-1} + (1 - d_t) w_t,   d_t = min(decay, (1 + t) / (10 + t))
    NT-ASGD   a_k = (w_T + ... + w_k) / (k - T + 1),           T where validation has stopped improving

The run goes on with its own weights w; the averages are what is validated and written down as the weights of a
checkpoint (`swap`). Then w belongs to the saved training state (`tensors`), so that a resumed run is exact to the bit.
Averages depend on nothing but parameters and validation losses, which are equal on all ranks.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from rnnlm.config import config


@config
class AveragingConfig:
    """Base of the configs in conf/averaging."""

    @abstractmethod
    def build(self, model: nn.Module) -> "Averager | None":
        """An average of the parameters of `model`, or None for none."""


class Averager:
    """An average of the parameters of `model`; buffers are left alone.

    `averages` are the tensors of the average, one a parameter, or none as long as there is no average; then `swap` and
    `tensors` leave the weights as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = list(model.parameters())
        self.averages: list[Tensor] = []
        self.swapped = False

    def update(self, step: int) -> None:
        """Take in the weights after `step` (from 1). To be called after every step, outside of `swap`."""
        assert not self.swapped, "the weights that are in the model are not those of the run"
        if self.averages:
            with torch.no_grad():
                self.take_in([parameter.detach() for parameter in self.parameters], step)

    @abstractmethod
    def take_in(self, weights: list[Tensor], step: int) -> None:
        """Move `averages` on by the weights after `step`."""

    def observe(self, valid_nll: float) -> None:
        """Hear what a validation gave. To be called after every validation, outside of `swap`."""

    @contextmanager
    def swap(self) -> Iterator[None]:
        """Within, the model has the averaged weights and must not be trained."""
        assert not self.swapped, "the averaged weights are already in the model"
        self._exchange()
        self.swapped = True
        try:
            yield
        finally:
            self._exchange()
            self.swapped = False

    def tensors(self) -> dict[str, Tensor]:
        """What must be saved beside the averaged weights: copies of the weights of the run, inside `swap` or not."""
        if not self.averages:
            return {}
        weights = self.averages if self.swapped else self.parameters
        return {f"weight.{index}": weight.detach().clone() for index, weight in enumerate(weights)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave. The weights of the checkpoint, saved within `swap`, are in the model: they
        become the average, and the model gets the weights of the run."""
        self.averages = []
        if "weight.0" not in tensors:
            return
        self.start()
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"weight.{index}"])

    def start(self) -> None:
        """Begin an average with the weights that are in the model."""
        self.averages = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def _exchange(self) -> None:
        """In place: others (flattened weights, an optimizer) hold these very tensors."""
        if not self.averages:
            return
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            weights = parameter.clone()
            parameter.copy_(average)
            average.copy_(weights)


@config
class NoAveragingConfig(AveragingConfig):
    """The last weights are the weights."""

    def build(self, model: nn.Module) -> None:  # noqa: ARG002 - nothing is kept of it
        return None


@config
class EMAConfig(AveragingConfig):
    """An exponential moving average of the weights (Polyak & Juditsky 1992, with a fading memory)."""

    decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    "Share of the average that a step keeps, at most (1 + t) / (10 + t): it looks back 1 / (1 - decay) steps."

    def build(self, model: nn.Module) -> "EMA":
        return EMA(model, self.decay)


class EMA(Averager):
    """The decay is a function of the step, so there is nothing to be saved but weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay
        self.start()

    def take_in(self, weights: list[Tensor], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self.averages, weights, None)


@config
class NTASGDConfig(AveragingConfig):
    """The mean of all weights since validation stopped improving (Merity, Keskar & Socher 2018; for optimizer=sgd)."""

    patience: int = Field(default=5, ge=1)
    "The paper's n: averaging begins when a validation is worse than the best of all but the last n before it."

    def build(self, model: nn.Module) -> "NTASGD":
        return NTASGD(model, self.patience)


class NTASGD(Averager):
    """Algorithm 1 of the paper as published at ICLR and in the authors' code: with t losses in `losses`, a new loss v
    triggers if t > n and v > min(losses[0], ..., losses[t - n - 1]). (An earlier print has the last n losses there,
    which the authors call a mistake.) The trigger is pulled once."""

    def __init__(self, model: nn.Module, patience: int) -> None:
        super().__init__(model)
        self.patience = patience
        self.losses: list[float] = []
        self.count = 0  # weights in the mean

    def observe(self, valid_nll: float) -> None:
        assert not self.swapped, "the average would begin with itself"
        if self.averages:
            return
        earlier = self.losses[: max(0, len(self.losses) - self.patience)]
        self.losses.append(valid_nll)
        if earlier and valid_nll > min(earlier):
            self.start()
            self.count = 1

    def take_in(self, weights: list[Tensor], step: int) -> None:  # noqa: ARG002 - all weights count the same
        get_swa_multi_avg_fn()(self.averages, weights, self.count)
        self.count += 1

    def tensors(self) -> dict[str, Tensor]:
        losses = torch.tensor(self.losses, dtype=torch.float64)
        return {**super().tensors(), "losses": losses, "count": torch.tensor(self.count)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        super().restore(tensors)
        self.losses, self.count = tensors["losses"].tolist(), int(tensors["count"])
