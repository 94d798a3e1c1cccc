"""Optimizers: torch's own, in their fused form, made from data."""

from abc import abstractmethod

import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config


@config
class OptimizerConfig:
    """Base of the configs in conf/optimizer."""

    learning_rate: float = Field(default=3e-3, gt=0.0)
    "The peak rate; the schedule multiplies it by a factor between 0 and 1."
    weight_decay: float = Field(default=0.0, ge=0.0)
    "Decoupled decay of matrices; biases are left alone."

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of all parameters of `model`."""

    def groups(self, model: nn.Module) -> list[dict[str, object]]:
        """Matrices with weight decay, vectors without."""
        parameters = list(model.parameters())
        return [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]


@config
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    "Decay of the mean of gradients."
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0)
    "Decay of the mean of squared gradients."
    epsilon: float = Field(default=1e-8, gt=0.0)
    "Keeps the division finite."

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(self.groups(model), lr=self.learning_rate, betas=betas, eps=self.epsilon, fused=True)


@config
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent."""

    learning_rate: float = Field(default=1.0, gt=0.0)
    "The peak rate; the schedule multiplies it by a factor between 0 and 1."
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Share of the last step that is taken again."

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.groups(model), lr=self.learning_rate, momentum=self.momentum, fused=True)
