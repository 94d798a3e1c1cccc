"""Sums and searches in rows of logits, which cost as much as a small network if they are done carelessly.

Microseconds a row of V = 8,192 in float32, one thread of an EPYC (Zen 5), batches of 64:

                       here    torch
    log-sum-exp         2.8      6.9    through exp2, a quarter of the time of torch's exp
    the best            0.4      4.7    numpy's searches and sorts use vector instructions, torch's do not
    the best 40         4.9     15.7
    the best 256       12.8     65.7
    all in order         85      413

A row's outcome depends on that row alone.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rnnlm.types import StepLogits, StepTokens

LOG2_E = math.log2(math.e)
GROUP = 8  # logits a group in the search for a few; with groups of 4, 16 and 32 the best 40 take 5.6, 5.0 and 5.6 us
GROUPS_PER_PLACE = 8  # groups there must be for each place sought; with fewer, groups gain nothing


def log_sum_exp(logits: StepLogits) -> Float[Tensor, " B"]:
    """log of the sum of exp(logits) of each row, in nats."""
    top = logits.amax(1, keepdim=True)
    total = torch.add(top * -LOG2_E, logits, alpha=LOG2_E).exp2_().sum(1, keepdim=True)
    return total.log_().add_(top).squeeze(1)


def best(logits: StepLogits) -> StepTokens:
    """The token with the largest logit; the first of equals."""
    if not _suits_numpy(logits):
        return logits.argmax(1)
    return torch.from_numpy(logits.numpy().argmax(1))


def best_few(logits: StepLogits, count: int) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """The `count` largest logits, falling, and their tokens."""
    vocab_size = logits.shape[1]
    if not _suits_numpy(logits):
        found = logits.topk(count, dim=1)
        return found.values, found.indices
    values, names = logits, None
    if count * GROUP * GROUPS_PER_PLACE <= vocab_size:
        names = _best_groups(values, count)
        values = values.gather(1, names)
    if count < values.shape[1]:
        places = _largest(values, count)
        values = values.gather(1, places)
        names = places if names is None else names.gather(1, places)
    order = torch.from_numpy(np.argsort(-values.numpy(), axis=1))
    return values.gather(1, order), order if names is None else names.gather(1, order)


def _best_groups(values: Float[Tensor, "B V"], count: int) -> Int[Tensor, "B K"]:
    """Columns that hold the `count` best of each row: those of the `count` groups with the largest maxima (each of the
    best is in one of them), and the columns left over. Columns of a group lie far apart, so that maxima are those of
    whole vectors."""
    rows, vocab_size = values.shape
    num_groups = vocab_size // GROUP
    grouped = num_groups * GROUP
    maxima = values[:, :grouped].unflatten(1, (GROUP, num_groups)).amax(1)
    columns = _largest(maxima, count).unsqueeze(1) + torch.arange(0, grouped, num_groups).unsqueeze(1)
    left_over = torch.arange(grouped, vocab_size).expand(rows, -1)
    return torch.cat([columns.flatten(1), left_over], dim=1)


def _largest(values: Float[Tensor, "B N"], count: int) -> Int[Tensor, "B K"]:
    """Places of the `count` largest of each row, in no order."""
    first = values.shape[1] - count
    return torch.from_numpy(np.argpartition(values.numpy(), first, axis=1)[:, first:])


def _suits_numpy(logits: Tensor) -> bool:
    return logits.device.type == "cpu" and logits.dtype in {torch.float32, torch.float64}
