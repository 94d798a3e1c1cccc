"""No sequence of n tokens twice in one hypothesis (Paulus, Xiong & Socher 2018, section 2.5, with trigrams)."""

import torch

from rnnlm.decoding.rules.history import NOTHING, HistoryRule
from rnnlm.types import Lengths, State, StepLogits


class NoRepeatNgram(HistoryRule):
    """Forbids each token that would make the last n tokens a sequence that was there before."""

    def __init__(self, n: int, max_tokens: int) -> None:
        super().__init__(max_tokens)
        self._n = n

    def restrict(self, logits: StepLogits, lengths: Lengths, state: State, eos_id: int) -> None:  # noqa: ARG002
        longest, before = int(lengths.max()), self._n - 1
        if longest < self._n:
            return
        history = state[0][:, :longest]
        following = history[:, before:]
        forbidden = following != NOTHING
        if before:
            places = lengths.unsqueeze(1) - before + torch.arange(before, device=lengths.device)
            last = history.gather(1, places.clamp_min(0))
            forbidden &= (history.unfold(1, before, 1)[:, :-1] == last.unsqueeze(1)).all(2)
        rows, columns = forbidden.nonzero(as_tuple=True)
        logits[rows, following[rows, columns]] = -torch.inf
