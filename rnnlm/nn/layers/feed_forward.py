"""A feed-forward network applied to each position alone (as in Vaswani et al. 2017, equation 2).

y = W2 f(W1 x + b1) + b2
"""

from pydantic import Field

from rnnlm.config import config
from rnnlm.nn.activations import ACTIVATIONS, Activation
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import LayerConfig, PositionLayer
from rnnlm.nn.products import Linear
from rnnlm.types import PackedInputs, Projected


@config
class FeedForwardConfig(LayerConfig):
    """Two matrices with a nonlinearity between, for each position alone."""

    inner_size: int = Field(default=1024, ge=1)
    "Size between the two matrices."
    size: int | None = Field(default=None, ge=1)
    "Size of the outputs; null keeps that of the inputs."
    activation: Activation = "gelu"
    "The function f."
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that a number between the matrices is zeroed in training."

    def output_size(self, input_size: int) -> int:
        return self.size or input_size

    def build(self, input_size: int) -> "FeedForward":
        return FeedForward(
            input_size, self.inner_size, self.output_size(input_size), self.activation, dropout=self.dropout
        )


class FeedForward(PositionLayer):
    """W1, b1 are `widen`, W2, b2 are `narrow`."""

    def __init__(
        self, input_size: int, inner_size: int, output_size: int, activation: Activation, *, dropout: float
    ) -> None:
        super().__init__(input_size, output_size)
        self.widen = Linear(input_size, inner_size)
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout, variational=False)
        self.narrow = Linear(inner_size, output_size)

    def project(self, inputs: PackedInputs) -> Projected:
        outputs: Projected = self.narrow(self.dropout(self.activation(self.widen(inputs))))
        return outputs
