"""minLSTM: an LSTM whose gates and candidate do not look at the state, its gates scaled to add up to 1 (Feng, Tung,
Ahmed, Bengio & Hajimirsadeghi 2024, "Were RNNs all we needed?", section 3.2).

    f_t  = sigmoid(W_f x_t + b_f)            i_t  = sigmoid(W_i x_t + b_i)
    f'_t = f_t / (f_t + i_t)                 i'_t = i_t / (f_t + i_t)
    h~_t = g(W_h x_t + b_h)                  h_t  = f'_t * h_{t-1} + i'_t * h~_t

f' is computed as sigmoid(log f - log i), which is the same and never divides 0 by 0. g is that of minGRU. The state
starts at 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rnnlm.config import config
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.min_gru import Candidate, activated
from rnnlm.nn.cells.scan import ScanCell, mixing
from rnnlm.nn.products import Linear
from rnnlm.types import PackedInputs, Parts, Projected


@config
class MinLSTMConfig(CellConfig):
    """Minimal long short-term memory."""

    candidate: Candidate = "positive"
    "The function g: the paper's positive one, or the identity, which lets states be negative."
    forget_bias: float = 1.0
    "What the forget gate's bias b_f starts at; above 0 memory is kept at first."

    def build(self, input_size: int) -> "MinLSTM":
        return MinLSTM(input_size, self.hidden_size, self.candidate, self.forget_bias)


class MinLSTM(ScanCell):
    """State: (h,)."""

    def __init__(self, input_size: int, hidden_size: int, candidate: Candidate, forget_bias: float) -> None:
        super().__init__(input_size, hidden_size, (hidden_size, hidden_size, hidden_size))
        self.candidate: Candidate = candidate
        self.products = Linear(input_size, 3 * hidden_size)  # f, i, h~
        with torch.no_grad():
            self.products.bias[:hidden_size] = forget_bias

    def project(self, inputs: PackedInputs) -> Projected:
        projected: Tensor = self.products(inputs)
        return projected

    def coefficients(self, parts: Parts) -> tuple[Tensor, Tensor]:
        forget, write, candidate = parts
        keep = (F.logsigmoid(forget) - F.logsigmoid(write)).sigmoid()
        return mixing(keep, activated(candidate, self.candidate))
