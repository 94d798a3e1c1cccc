"""minGRU: a GRU whose gate and candidate do not look at the state (Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024,
"Were RNNs all we needed?", section 3.1).

    z_t  = sigmoid(W_z x_t + b_z)
    h~_t = g(W_h x_t + b_h)
    h_t  = (1 - z_t) * h_{t-1} + z_t * h~_t

g is the identity, or, as in the paper's log-space version (appendix B), g(x) = x + 0.5 for x >= 0 and sigmoid(x) below:
positive, so that logarithms exist. We take no logarithms (see rnnlm/nn/linear_scan.py); g is kept since networks differ
by it. The state starts at 0.
"""

from typing import Literal

import torch
from torch import Tensor

from rnnlm.config import config
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.scan import ScanCell, mixing
from rnnlm.nn.products import Linear
from rnnlm.types import PackedInputs, Parts, Projected

Candidate = Literal["positive", "identity"]


@config
class MinGRUConfig(CellConfig):
    """Minimal gated recurrent unit."""

    candidate: Candidate = "positive"
    "The function g: the paper's positive one, or the identity, which lets states be negative."

    def build(self, input_size: int) -> "MinGRU":
        return MinGRU(input_size, self.hidden_size, self.candidate)


class MinGRU(ScanCell):
    """State: (h,)."""

    def __init__(self, input_size: int, hidden_size: int, candidate: Candidate) -> None:
        super().__init__(input_size, hidden_size, (hidden_size, hidden_size))
        self.candidate: Candidate = candidate
        self.products = Linear(input_size, 2 * hidden_size)  # z, h~

    def project(self, inputs: PackedInputs) -> Projected:
        projected: Tensor = self.products(inputs)
        return projected

    def coefficients(self, parts: Parts) -> tuple[Tensor, Tensor]:
        update, candidate = parts
        return mixing(1.0 - update.sigmoid(), activated(candidate, self.candidate))


def activated(candidate: Tensor, function: Candidate) -> Tensor:
    """g; of the two terms of the positive one, the first is 0 below 0 and the second 0.5 above."""
    if function == "identity":
        return candidate
    above = torch.relu(candidate)
    return above + (candidate - above).sigmoid()
