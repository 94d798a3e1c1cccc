"""Stochastic gradient descent (Robbins & Monro 1951), with momentum (Polyak 1964) as torch writes it.

    v_t = momentum v_{t-1} + g_t + weight_decay w_{t-1}
    w_t = w_{t-1} - rate v_t

For NT-ASGD (Merity, Keskar & Socher 2018) take it without momentum, with `averaging=nt_asgd`.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.training.optimizers.base import OptimizerConfig


@config
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent."""

    elementwise: ClassVar[bool] = True
    learning_rate: float = Field(default=1.0, gt=0.0)
    "The peak rate; the schedule multiplies it by a factor between 0 and 1."
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Share of the last step that is taken again."

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.groups(model), lr=self.learning_rate, momentum=self.momentum, fused=True)
