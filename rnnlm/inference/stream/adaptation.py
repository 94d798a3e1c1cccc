"""Dynamic evaluation (Krause, Kahembwe, Murray & Renals 2018, "Dynamic evaluation of neural sequence models").

The text is scored segment by segment; after each, the parameters take a step towards what was just read, and are drawn
back to the trained ones. With g the gradient of a segment's mean nll and theta_0 the trained parameters:

    sgd    theta <- theta - learning_rate g + decay (theta_0 - theta)                                  (equation 4)
    rms    theta <- theta - learning_rate g / (sqrt(MS) + epsilon) + decay R (theta_0 - theta)         (equations 5-7)

MS is the mean of the squared gradients, and R = sqrt(MS) / mean of sqrt(MS), cut where decay R would exceed 1: what
usually moves far is also drawn back faster. MS is measured on training data if a table is given (as in the paper),
else on the segments read so far. A target is always scored before anything is learnt from it.
"""

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config


@config
class AdaptationConfig:
    """Base of the configs in conf/adaptation."""

    @abstractmethod
    def open(self, model: nn.Module) -> "Adaptation | None":
        """What moves the parameters of `model`, or None if nothing does."""


@config
class NoAdaptationConfig(AdaptationConfig):
    """The trained parameters throughout."""

    def open(self, model: nn.Module) -> None:  # noqa: ARG002 - it is left alone
        return None


@config
class DynamicEvaluationConfig(AdaptationConfig):
    """Learning goes on while scoring. The best values depend on the model: fit them on held-out text."""

    segment: int = Field(default=20, ge=1)
    "Targets between two steps; the paper has 5, fewer are better and slower."
    rule: Literal["rms", "sgd"] = "rms"
    "How gradients are scaled."
    learning_rate: float = Field(default=1e-4, ge=0.0)
    "Length of a step."
    decay: float = Field(default=0.02, ge=0.0, lt=1.0)
    "How strongly parameters are drawn back to the trained ones (the paper's lambda)."
    epsilon: float = Field(default=1e-5, gt=0.0)
    "Keeps steps of rule rms finite."

    def open(self, model: nn.Module) -> "Adaptation":
        return Adaptation(self, [parameter for parameter in model.parameters() if parameter.requires_grad])


class Adaptation:
    """Trained values, mean squares, and the step."""

    def __init__(self, settings: DynamicEvaluationConfig, parameters: list[nn.Parameter]) -> None:
        self.settings, self.parameters = settings, parameters
        self.trained = [parameter.detach().clone() for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]
        self.observed = 0
        self.fixed = False  # the mean squares come from training data

    def observe(self) -> None:
        """Take the gradients that are there into the mean squares."""
        self.observed += 1
        for square, parameter in zip(self.squares, self.parameters, strict=True):
            if parameter.grad is not None:
                square.lerp_(parameter.grad.square(), 1.0 / self.observed)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients, which are then gone."""
        settings = self.settings
        if settings.rule == "rms" and not self.fixed:
            self.observe()
        roots = [square.sqrt() for square in self.squares] if settings.rule == "rms" else []
        count = sum(root.numel() for root in roots)
        mean = sum(root.sum(dtype=torch.float64).item() for root in roots) / count if count else 0.0
        for index, (parameter, trained) in enumerate(zip(self.parameters, self.trained, strict=True)):
            gradient = parameter.grad
            parameter.grad = None
            pull: Tensor | float = settings.decay
            if settings.rule == "rms":
                root = roots[index]
                pull = (settings.decay / mean * root).clamp_max_(1.0) if mean > 0.0 else 0.0
                gradient = None if gradient is None else gradient / (root + settings.epsilon)
            parameter.add_((trained - parameter) * pull)
            if gradient is not None:
                parameter.sub_(gradient, alpha=settings.learning_rate)
