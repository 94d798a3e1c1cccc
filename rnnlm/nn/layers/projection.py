"""A linear map of each position: y = W x + b. Brings a wide stack to the size of a tied embedding."""

from pydantic import Field

from rnnlm.config import config
from rnnlm.nn.layer import LayerConfig, PositionLayer
from rnnlm.nn.products import Linear
from rnnlm.types import PackedInputs, Projected


@config
class ProjectionConfig(LayerConfig):
    """A linear map of each position."""

    size: int = Field(default=256, ge=1)
    "Size of the outputs."
    bias: bool = True
    "Add b."

    def output_size(self, input_size: int) -> int:  # noqa: ARG002 - reads any size
        return self.size

    def build(self, input_size: int) -> "Projection":
        return Projection(input_size, self.size, bias=self.bias)


class Projection(PositionLayer):
    """W, b are `linear`."""

    def __init__(self, input_size: int, output_size: int, *, bias: bool) -> None:
        super().__init__(input_size, output_size)
        self.linear = Linear(input_size, output_size, bias=bias)

    def project(self, inputs: PackedInputs) -> Projected:
        outputs: Projected = self.linear(inputs)
        return outputs
