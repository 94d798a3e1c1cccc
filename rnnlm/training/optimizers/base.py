"""What every optimizer gives: one object of torch's kind that updates all parameters of a model.

The loop sets the rate of every group before a step (`set_learning_rate`), and writes down and takes up again every
tensor in `optimizer.state[parameter]`. So whatever an optimizer remembers from step to step is a tensor in there.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config


@config
class OptimizerConfig:
    """Base of the configs in conf/optimizer."""

    elementwise: ClassVar[bool] = False
    "Whether an element's update depends on nothing but itself: then a parameter may be cut and updated in parts."
    learning_rate: float = Field(default=3e-3, gt=0.0)
    "The peak rate; the schedule multiplies it by a factor between 0 and 1."
    weight_decay: float = Field(default=0.0, ge=0.0)
    "Decoupled decay of matrices; biases are left alone."

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of all parameters of `model`."""

    def groups(self, model: nn.Module) -> list[dict[str, object]]:
        """Matrices with weight decay, vectors without."""
        return grouped(list(model.parameters()), self.weight_decay)


def grouped(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Matrices with weight decay, vectors without."""
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group `rate`, times the group's own `lr_scale` if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
