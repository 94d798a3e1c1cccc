"""Min-p (Nguyen et al. 2025, "Turning Up the Heat"): what is far less probable than the best is cut off."""

import math

import torch

from rnnlm.types import StepLogits


def cut_min_p(logits: StepLogits, min_p: float, temperature: float) -> StepLogits:
    """The logits with -inf for tokens that, at this temperature, have less than `min_p` times the probability of the
    most probable."""
    least = logits.amax(1, keepdim=True) + temperature * math.log(min_p)
    return logits.masked_fill(logits < least, -torch.inf)
