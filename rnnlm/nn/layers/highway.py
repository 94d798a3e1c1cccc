"""A gate between a layer and the way round it (Srivastava, Greff & Schmidhuber 2015, equation 3 with C = 1 - T; for
recurrent layers: Zilly et al. 2017).

    t = sigmoid(W x + b)        y = t * f(x) + (1 - t) * x

With a feed-forward network inside, this is the highway network; with a cell, a highway from layer to layer. b starts
below zero, so that at first most of x goes round (section 2.1).
"""

import torch
from torch import nn

from rnnlm.config import config
from rnnlm.nn.layer import Layer
from rnnlm.nn.layers.bypass import Bypass, BypassConfig
from rnnlm.nn.products import Linear
from rnnlm.types import Features


@config
class HighwayConfig(BypassConfig):
    """A learned gate chooses between a layer's inputs and its outputs, feature by feature."""

    gate_bias: float = -1.0
    "What b starts at; the lower, the more goes round the layer."

    def build(self, input_size: int) -> "Highway":
        return Highway(self.inner.build(input_size), self.gate_bias)


class Highway(Bypass):
    """f is `inner`, W and b are `gate`."""

    def __init__(self, inner: Layer, gate_bias: float) -> None:
        super().__init__(inner)
        self.gate = Linear(self.input_size, self.output_size)
        nn.init.constant_(self.gate.bias, gate_bias)

    def join(self, inputs: Features, outputs: Features) -> Features:
        return torch.lerp(inputs, outputs, self.gate(inputs).sigmoid())
