"""A linear-chain conditional random field over labels (Lafferty, McCallum & Pereira 2001): `structure/chain.py` with
scores of transitions that are learnt."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnlm.structure.chain import (
    Allowed,
    Chain,
    Decoded,
    Emissions,
    Hypotheses,
    Labels,
    constrain,
    k_best,
    log_likelihood,
    marginals,
    viterbi,
)
from rnnlm.types import Lengths

BOUND = 0.1  # nats; transitions begin as good as equal


class ChainCRF(nn.Module):
    """Scores of transitions (L x L, from and to), of beginnings and of ends (L each) for `num_labels` labels, in nats.

    `allowed` says what may begin, follow and end; nothing else is ever decoded while it can be helped. In training it
    counts only if `constrain_training`: then no probability is lost on forbidden sequences, and a forbidden target has
    an infinite loss. Without, targets may break the rules, and forbidden transitions are learnt but never used.
    `allowed` is no part of the state dict: it follows from the labels.
    """

    allowed_transitions: Tensor | None
    allowed_start: Tensor | None
    allowed_end: Tensor | None

    def __init__(self, num_labels: int, allowed: Allowed | None = None, *, constrain_training: bool = False) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.empty(num_labels, num_labels).uniform_(-BOUND, BOUND))
        self.start = nn.Parameter(torch.empty(num_labels).uniform_(-BOUND, BOUND))
        self.end = nn.Parameter(torch.empty(num_labels).uniform_(-BOUND, BOUND))
        self.constrain_training = constrain_training
        transitions, start, end = allowed or (None, None, None)
        self.register_buffer("allowed_transitions", transitions, persistent=False)
        self.register_buffer("allowed_start", start, persistent=False)
        self.register_buffer("allowed_end", end, persistent=False)

    @property
    def allowed(self) -> Allowed | None:
        """What may begin, follow and end, on the device of the parameters; None allows all."""
        transitions, start, end = self.allowed_transitions, self.allowed_start, self.allowed_end
        if transitions is None or start is None or end is None:
            return None
        return Allowed(transitions, start, end)

    def chain(self, emissions: Emissions, lengths: Lengths, *, constrained: bool = True) -> Chain:
        """The scores of a batch: what the functions of `structure/chain.py` take."""
        chain = Chain(emissions, lengths, self.transitions, self.start, self.end)
        allowed = self.allowed if constrained else None
        return chain if allowed is None else constrain(chain, allowed)

    def loss(self, emissions: Emissions, labels: Labels, lengths: Lengths) -> Float[Tensor, ""]:
        """-log P(labels | x) in nats, summed over rows, float64. Labels in padding may be anything."""
        chain = self.chain(emissions, lengths, constrained=self.constrain_training)
        return -log_likelihood(chain, labels).sum()

    def decode(self, emissions: Emissions, lengths: Lengths) -> Decoded:
        """The best allowed sequences and their scores; see `viterbi`."""
        return viterbi(self.chain(emissions, lengths))

    def marginals(self, emissions: Emissions, lengths: Lengths) -> Emissions:
        """P(y_t = l | x) among allowed sequences; see `structure.chain.marginals`."""
        return marginals(self.chain(emissions, lengths))

    def k_best(self, emissions: Emissions, lengths: Lengths, k: int) -> Hypotheses:
        """The `k` best allowed sequences; see `structure.chain.k_best`."""
        return k_best(self.chain(emissions, lengths), k)
