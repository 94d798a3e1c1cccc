"""Locally typical sampling (Meister et al. 2023): tokens whose information is near the expected one are kept."""

import torch

from rnnlm.types import StepLogits


def cut_typical_p(logits: StepLogits, typical_p: float, temperature: float) -> StepLogits:
    """The logits with -inf but for the fewest tokens whose probabilities reach `typical_p`, those first whose
    -log p is nearest to the entropy of the row; both at this temperature."""
    log_p = (logits / temperature).double().log_softmax(1)
    p = log_p.exp()
    entropy = -torch.where(p > 0, p * log_p, 0.0).sum(1, keepdim=True)
    order = (-log_p - entropy).abs().sort(dim=1, stable=True).indices
    reached = p.gather(1, order).cumsum(1)
    within = reached - p.gather(1, order) < typical_p
    within[:, 0] = True
    return logits.masked_fill(~torch.zeros_like(within).scatter(1, order, within), -torch.inf)
