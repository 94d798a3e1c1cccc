"""How long a single token matters: what the model predicts at step t once the token k steps before is another.

    KL(p || q) = sum over w of p(w) (log p(w) - log q(w))        p as it was, q with x_{t-k} replaced

Khandelwal, He, Qi & Jurafsky (2018, section 5) perturb contexts in this way. The other token is one of the passages',
by their frequency, and never the same; all others stay, so that what is lost is one token and not the context.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rnnlm.determinism import numpy_generator
from rnnlm.diagnosis.passages import Passages
from rnnlm.errors import DataError
from rnnlm.nn.language_model import LanguageModel
from rnnlm.types import State, TokenIds

Others = Int[Tensor, "B lags"]
ByLag = Float[Tensor, "B lags"]


class Effect(NamedTuple):
    """Of each passage and lag: the divergence, and how much the target's loss rises; nats."""

    kl: ByLag
    loss: ByLag


def replacement_lags(max_lag: int) -> list[int]:
    """0, 1, 2, 3, 4, 6, 8, 12, 16 ... up to `max_lag`: about evenly spread by their logarithm."""
    powers = [1 << power for power in range(max_lag.bit_length())]
    return sorted({0, *powers, *(lag for lag in (power * 3 // 2 for power in powers) if lag <= max_lag), max_lag})


def draw_others(passages: Passages, lags: Sequence[int], seed: int) -> Others:
    """A token for the place of each x_{T-k} that is not x_{T-k}. Raises DataError if there is only one."""
    tokens = np.sort(passages.inputs.numpy(), axis=None)
    if tokens[0] == tokens[-1]:
        raise DataError("tokens: all passages are made of one token over and over", todo="give a table of real text")
    replaced = passages.inputs[:, [-1 - lag for lag in lags]].numpy()
    begin, end = np.searchsorted(tokens, replaced, side="left"), np.searchsorted(tokens, replaced, side="right")
    drawn = numpy_generator(seed, "replacements").integers(len(tokens) - (end - begin))
    return torch.from_numpy(tokens[np.where(drawn < begin, drawn, drawn + end - begin)])


@torch.no_grad()
def replacement_effects(model: LanguageModel, passages: Passages, lags: Sequence[int], others: Others) -> Effect:
    """The effect of putting `others` in the places of x_{T-k}, k being each of the rising `lags`."""
    inputs, targets = passages.inputs, passages.targets.unsqueeze(1)
    state, done = model.initial_state(len(inputs)), 0
    usual = _logprobs(model, inputs, state)
    found: list[tuple[Tensor, Tensor]] = []
    for place in reversed(range(len(lags))):  # the earliest first: what stands before is read once
        start = inputs.shape[1] - 1 - lags[place]
        if start > done:
            _, state = model.run(inputs[:, done:start], state)
            done = start
        changed = torch.cat([others[:, place : place + 1], inputs[:, start + 1 :]], dim=1)
        other = _logprobs(model, changed, state)
        found.append(((usual.exp() * (usual - other)).sum(1), (usual - other).gather(1, targets).squeeze(1)))
    kl, loss = zip(*reversed(found), strict=True)
    return Effect(torch.stack(kl, dim=1), torch.stack(loss, dim=1))


def _logprobs(model: LanguageModel, inputs: TokenIds, state: State) -> Float[Tensor, "B V"]:
    """log p of every token after the last input, in float64: far back the differences are small."""
    hidden, _ = model.run(inputs, state)
    logprobs: Tensor = model.softmax.logits(hidden[:, -1]).double().log_softmax(1)
    return logprobs
