"""The real-gated linear recurrent unit (De et al. 2024, "Griffin", equations 1 to 4).

    r_t = sigmoid(W_a x_t + b_a)                                 recurrence gate
    i_t = sigmoid(W_x x_t + b_x)                                 input gate
    a_t = a^(c r_t)                                              a = sigmoid(Lambda), c = 8
    h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * (i_t * x_t)

log a_t = -c r_t softplus(-Lambda), and 1 - a_t^2 = -expm1(2 log a_t), which stays exact where a_t is near 1. Lambda is
drawn such that a^c is uniform between 0.9 and 0.999. Where inputs are not of size H, x_t stands for W_in times the
input, as the paper's block has it. With `blocks`, W_a and W_x are block-diagonal, as in the released models.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.scan import ScanCell
from rnnlm.nn.products import Linear, linear
from rnnlm.types import LayerInputs, PackedInputs, Parts, Projected

SHARPNESS = 8.0  # c
SLOWEST, FASTEST = 0.999, 0.9  # a^c at the start


@config
class RGLRUConfig(CellConfig):
    """Real-gated linear recurrent unit."""

    blocks: int = Field(default=1, ge=1)
    "Blocks on the diagonals of W_a and W_x, each of hidden_size / blocks; 1 is a full matrix."

    def __post_init__(self) -> None:
        if self.hidden_size % self.blocks:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) does not divide into blocks ({self.blocks}); "
                "make one a multiple of the other"
            )

    def build(self, input_size: int) -> "RGLRU":
        return RGLRU(input_size, self.hidden_size, self.blocks)


class RGLRU(ScanCell):
    """State: (h,)."""

    def __init__(self, input_size: int, hidden_size: int, blocks: int) -> None:
        super().__init__(input_size, hidden_size, (hidden_size,) * 3)
        self.enter = None if input_size == hidden_size else Linear(input_size, hidden_size, bias=False)
        size = hidden_size // blocks
        self.weight = nn.Parameter(torch.empty(2, blocks, size, size).normal_(std=size**-0.5))  # W_a, W_x
        self.bias = nn.Parameter(torch.zeros(2, hidden_size))
        start = torch.empty(hidden_size).uniform_(FASTEST, SLOWEST).log() / SHARPNESS  # log a
        self.decay = nn.Parameter(start - torch.log(-torch.expm1(start)))  # Lambda, the logit of a

    def entered(self, inputs: Tensor) -> Tensor:
        """x of the equations, of size H."""
        return inputs if self.enter is None else self.enter(inputs)

    def gates(self, entered: Tensor) -> list[Tensor]:
        """r and i before the sigmoid."""
        blocks, size = self.weight.shape[1:3]
        if blocks == 1:
            return list(linear(entered, self.weight.flatten(0, 2), self.bias.flatten()).chunk(2, dim=-1))
        cut = entered.reshape(-1, blocks, size).transpose(0, 1)  # block N size
        products = (torch.bmm(cut, weight.mT).transpose(0, 1).reshape(entered.shape) for weight in self.weight)
        return [product + bias for product, bias in zip(products, self.bias, strict=True)]

    def parts(self, inputs: LayerInputs) -> Parts:
        entered = self.entered(inputs)
        return (*self.gates(entered), entered)

    def project(self, inputs: PackedInputs) -> Projected:
        entered = self.entered(inputs)
        return torch.cat([*self.gates(entered), entered], dim=1)

    def coefficients(self, parts: Parts) -> tuple[Tensor, Tensor]:
        recurrence, write, entered = parts
        log_decay = recurrence.sigmoid() * (-SHARPNESS * F.softplus(-self.decay))
        # The root has no slope at 0, where r_t underflows; below the smallest number the clamp gives it none.
        squares = (-torch.expm1(2.0 * log_decay)).clamp(min=torch.finfo(log_decay.dtype).tiny)
        return log_decay.exp(), squares.sqrt() * (write.sigmoid() * entered)
