"""No end before so many tokens."""

import torch

from rnnlm.decoding.rules.base import Rule
from rnnlm.types import Lengths, State, StepLogits


class MinTokens(Rule):
    """Forbids eos to hypotheses of fewer than `least` tokens."""

    def __init__(self, least: int) -> None:
        self._least = least

    def restrict(self, logits: StepLogits, lengths: Lengths, state: State, eos_id: int) -> None:  # noqa: ARG002
        logits[:, eos_id].masked_fill_(lengths < self._least, -torch.inf)
