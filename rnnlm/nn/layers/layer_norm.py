"""Layer normalisation of each position (Ba, Kiros & Hinton 2016, equation 4).

y = g * (x - mean(x)) / sqrt(variance(x) + epsilon) + b        over the features of one position
"""

from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.nn.layer import LayerConfig, PositionLayer
from rnnlm.types import PackedInputs, Projected


@config
class LayerNormConfig(LayerConfig):
    """Layer normalisation of each position."""

    epsilon: float = Field(default=1e-5, gt=0.0)
    "Added to the variance."

    def output_size(self, input_size: int) -> int:
        return input_size

    def build(self, input_size: int) -> "LayerNorm":
        return LayerNorm(input_size, self.epsilon)


class LayerNorm(PositionLayer):
    """g and b are `norm.weight` and `norm.bias`."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__(size, size)
        self.norm = nn.LayerNorm(size, eps=epsilon)

    def project(self, inputs: PackedInputs) -> Projected:
        outputs: Projected = self.norm(inputs)
        return outputs
