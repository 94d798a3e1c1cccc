"""Several layers as one, for what wraps one layer: a residual around an LSTM and a projection, say."""

from pydantic import Field

from rnnlm.config import config
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import LayerConfig, chained_size
from rnnlm.nn.stack import Stack, build_stack


@config
class SequenceConfig(LayerConfig):
    """Layers on top of one another, as one layer."""

    layers: list[LayerConfig] = Field(min_length=1)
    "The layers from the bottom up."
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that a feature between two of them is zeroed in training."

    def output_size(self, input_size: int) -> int:
        return chained_size("layers", self.layers, input_size)

    def build(self, input_size: int) -> Stack:
        return build_stack(self.layers, input_size, Dropout(self.dropout, variational=False))
