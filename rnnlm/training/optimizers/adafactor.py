"""Adafactor (Shazeer & Stern 2018, algorithm 4 without momentum), torch's: Adam's second moment of an R x C matrix kept
as R row means and C column means, so that a large embedding costs no memory for moments.

    beta_t = 1 - t^beta2_decay
    r_t, c_t = beta_t (r, c)_{t-1} + (1 - beta_t) (means of g_t^2 over columns, over rows)
    u_t = g_t / sqrt(r_t c_t / mean(r_t));   u_t = u_t / max(1, rms(u_t) / clip_threshold)
    w_t = w_{t-1} - max(scale_floor, rms(w_{t-1})) min(rate, 1 / sqrt(t)) u_t

The step is relative to the size of the weights. From step 1 / rate^2 on (10,000 at the default) it shrinks by itself;
the schedule bites where it asks for less.
"""

import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.training.optimizers.base import OptimizerConfig


@config
class AdafactorConfig(OptimizerConfig):
    """Adam with a second moment of rows and columns instead of elements (Shazeer & Stern 2018)."""

    learning_rate: float = Field(default=1e-2, gt=0.0)
    "The peak rate, relative to the root mean square of a parameter; the schedule multiplies it."
    beta2_decay: float = Field(default=-0.8, le=0.0)
    "How fast the mean of squared gradients slows down: its decay is 1 - t^beta2_decay."
    clip_threshold: float = Field(default=1.0, ge=1.0)
    "The root mean square that an update is scaled down to."
    scale_floor: float = Field(default=1e-3, gt=0.0)
    "A parameter counts as at least so large (root mean square), so that zeros can move."

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adafactor(
            self.groups(model),
            lr=self.learning_rate,
            beta2_decay=self.beta2_decay,
            eps=(None, self.scale_floor),
            d=self.clip_threshold,
        )
