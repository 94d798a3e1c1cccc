"""Effective memory: the loss of the same targets when the model is only shown the last n tokens before each
(Khandelwal, He, Qi & Jurafsky 2018, "Sharp nearby, fuzzy far away", section 4).

A model that is shown n tokens begins with its initial state. The effective context is the smallest n from which on the
perplexity stays within 1 % of that of the whole passage.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlm.diagnosis.passages import Passages
from rnnlm.nn.language_model import LanguageModel

TOLERANCE = math.log(1.01)  # nats: a perplexity that is 1 % higher

Losses = Float[Tensor, "B lengths"]


def context_lengths(steps: int) -> list[int]:
    """1, 2, 4 ... and the whole passage of `steps` tokens."""
    return [*(1 << power for power in range((steps - 1).bit_length())), steps]


@torch.no_grad()
def context_losses(model: LanguageModel, passages: Passages, lengths: Sequence[int]) -> Losses:
    """-log p of each passage's target given its last n tokens, in nats, for each n of `lengths`."""
    losses = []
    for length in lengths:
        hidden, _ = model.run(passages.inputs[:, -length:], model.initial_state(len(passages.inputs)))
        losses.append(-model.softmax.logprobs(hidden[:, -1], passages.targets))
    return torch.stack(losses, dim=1).double()


def effective_context(lengths: Sequence[int], nll: Sequence[float]) -> int:
    """See above; `lengths` rise, and the last is the whole passage."""
    effective = lengths[-1]
    for length, loss in zip(reversed(lengths), reversed(nll), strict=True):
        if loss > nll[-1] + TOLERANCE:
            break
        effective = length
    return effective
