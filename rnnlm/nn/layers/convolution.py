"""Convolution over time (Dauphin et al. 2017, without the gate).

    causal      y_t = f(b + sum over k of W_k x_{t-k})                  k = 0, ..., width-1
    centred     y_t = f(b + sum over k of W_k x_{t+r-k})                r = floor(width / 2)

What lies outside the sequence is zero. `depthwise` keeps each feature to itself: W_k is then diagonal (Kaiser, Gomez &
Chollet 2018).
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.nn.activations import ACTIVATIONS, Activation
from rnnlm.nn.layer import Layer, LayerConfig
from rnnlm.nn.layers.history import joined, last
from rnnlm.nn.packing import Packing
from rnnlm.types import (
    Joined,
    LayerInputs,
    LayerOutputs,
    Lengths,
    PackedHidden,
    Projected,
    ProjectedSequence,
    ProjectedStep,
    State,
    StepOutputs,
)


@config
class ConvolutionConfig(LayerConfig):
    """A filter over the last few positions, or those around."""

    width: int = Field(default=4, ge=2)
    "Positions that an output is made of."
    depthwise: bool = True
    "A filter for each feature alone instead of one over all; outputs have the size of the inputs."
    size: int | None = Field(default=None, ge=1)
    "Size of the outputs; null keeps that of the inputs."
    activation: Activation = "none"
    "The function f."
    causal: bool = True
    "Only the position itself and those before it; false centres the filter, so that it sees later ones."

    def output_size(self, input_size: int) -> int:
        if self.depthwise and self.size not in {None, input_size}:
            raise ValueError(
                f"a depthwise convolution of inputs of {input_size} cannot give size={self.size}; "
                f"set size=null or depthwise=false"
            )
        return self.size or input_size

    def looks_ahead(self) -> str | None:
        return (
            None if self.causal else f"{type(self).__name__} with causal=false sees {self.width // 2} positions ahead"
        )

    def build(self, input_size: int) -> "Convolution":
        kind = CausalConvolution if self.causal else CentredConvolution
        groups = input_size if self.depthwise else 1
        filters = nn.Conv1d(input_size, self.output_size(input_size), self.width, groups=groups)
        return kind(filters, self.activation)


class Convolution(Layer):
    """W and b are `filters`; torch's W runs from the oldest position to the newest."""

    def __init__(self, filters: nn.Conv1d, activation: Activation, *, remembers: int) -> None:
        super().__init__(
            filters.in_channels, filters.out_channels, (remembers * filters.in_channels,) * (remembers > 0)
        )
        self.filters = filters
        self.activation = ACTIVATIONS[activation]
        (self.width,) = filters.kernel_size

    def convolve(self, inputs: Joined) -> LayerOutputs:
        """B T+width-1 D to B T H: outputs where the filter fits."""
        return self.activation(self.filters(inputs.transpose(1, 2)).transpose(1, 2))


class CausalConvolution(Convolution):
    """State: (the last width - 1 inputs,)."""

    def __init__(self, filters: nn.Conv1d, activation: Activation) -> None:
        super().__init__(filters, activation, remembers=filters.kernel_size[0] - 1)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        outputs, state = self.advance_sequence(projected.unsqueeze(1), state)
        return outputs.squeeze(1), state

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        inputs = joined(state[0], projected)
        return self.convolve(inputs), (last(inputs, self.width - 1),)

    def advance_packed(self, projected: Projected, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        inputs = joined(state[0], packing.pad(projected))
        lengths = packing.lengths.to(inputs.device)
        return packing.pack(self.convolve(inputs)), (last(inputs, self.width - 1, lengths),)


class CentredConvolution(Convolution):
    """Reads whole sequences only."""

    looks_ahead = True

    def __init__(self, filters: nn.Conv1d, activation: Activation) -> None:
        super().__init__(filters, activation, remembers=0)

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:
        inside = torch.arange(inputs.shape[1], device=inputs.device) < lengths.to(inputs.device)[:, None]
        ahead = self.width // 2
        padded = F.pad(inputs * inside[:, :, None], (0, 0, self.width - 1 - ahead, ahead))
        return self.convolve(padded)
