"""Tokens that were generated before are made less likely (Keskar et al. 2019, "CTRL", section 4.1).

The paper divides the logit of such a token by the penalty, which would favour it where the logit is negative; there it
is multiplied, as in the authors' own later code and everywhere since.
"""

import torch

from rnnlm.decoding.rules.history import NOTHING, HistoryRule
from rnnlm.types import Lengths, State, StepLogits


class RepetitionPenalty(HistoryRule):
    """Divides positive logits of tokens that were there by `penalty`, and multiplies negative ones by it, once however
    often they were there."""

    def __init__(self, penalty: float, max_tokens: int) -> None:
        super().__init__(max_tokens)
        self._penalty = penalty

    def restrict(self, logits: StepLogits, lengths: Lengths, state: State, eos_id: int) -> None:  # noqa: ARG002
        longest = int(lengths.max())
        if longest == 0:
            return
        history = state[0][:, :longest]
        # Behind the last token stands the first once more, so that all writes to one place write the same.
        tokens = torch.where(history == NOTHING, history[:, :1], history)
        present = tokens != NOTHING
        tokens = tokens.clamp_min(0)
        values = logits.gather(1, tokens)
        penalised = torch.where(values > 0, values / self._penalty, values * self._penalty)
        logits.scatter_(1, tokens, torch.where(present, penalised, values))
