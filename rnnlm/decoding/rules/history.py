"""A rule's memory of all tokens of a hypothesis, for rules that need to look at them."""

import torch

from rnnlm.decoding.rules.base import Rule
from rnnlm.types import Lengths, State, StepTokens

NOTHING = -1  # behind the last token


class HistoryRule(Rule):
    """Its state is one tensor, N x max_tokens: the tokens so far, then NOTHING."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens

    def start(self, count: int, device: torch.device) -> State:
        return (torch.full((count, self._max_tokens), NOTHING, dtype=torch.int64, device=device),)

    def advance(self, tokens: StepTokens, lengths: Lengths, state: State) -> State:
        (history,) = state
        history.scatter_(1, lengths.unsqueeze(1), tokens.unsqueeze(1))
        return state
