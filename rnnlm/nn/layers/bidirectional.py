"""Two layers, one from left to right and one from right to left (Schuster & Paliwal 1997).

f_t = forward(x_1, ..., x_t)        b_t = backward(x_n, ..., x_t)        n: the length of the row

concat     y_t = [f_t ; b_t]
sum        y_t = f_t + b_t
product    y_t = f_t * b_t
gate       z_t = sigmoid(W [f_t ; b_t] + c)        y_t = z_t * f_t + (1 - z_t) * b_t
"""

from typing import Literal

import torch

from rnnlm.config import config
from rnnlm.nn.layer import Layer, LayerConfig, checked_size
from rnnlm.nn.layers.reading_order import ReadingOrder
from rnnlm.nn.products import Linear
from rnnlm.types import LayerInputs, LayerOutputs, Lengths

Combine = Literal["concat", "sum", "product", "gate"]


@config
class BidirectionalConfig(LayerConfig):
    """Two layers read the sequence, from its beginning and from its end."""

    forward: LayerConfig
    "What reads from left to right."
    backward: LayerConfig | None = None
    "What reads from right to left, with weights of its own; null takes another of the same kind."
    combine: Combine = "concat"
    "How their outputs become one: side by side, added, multiplied, or mixed by a learned gate."

    def output_size(self, input_size: int) -> int:
        ahead = checked_size("forward", self.forward, input_size)
        back = ahead if self.backward is None else checked_size("backward", self.backward, input_size)
        if self.combine == "concat":
            return ahead + back
        if ahead != back:
            raise ValueError(
                f"combine={self.combine} needs two directions of one size, forward gives {ahead} and backward {back}; "
                f"make them equal or set combine=concat"
            )
        return ahead

    def looks_ahead(self) -> str:
        return f"{type(self).__name__} reads the sequence from its end too"

    def build(self, input_size: int) -> "Bidirectional":
        backward = self.forward if self.backward is None else self.backward
        return Bidirectional(
            self.forward.build(input_size), backward.build(input_size), self.combine, self.output_size(input_size)
        )


class Bidirectional(Layer):
    """Reads whole sequences only."""

    looks_ahead = True

    def __init__(self, ahead: Layer, back: Layer, combine: Combine, output_size: int) -> None:
        super().__init__(ahead.input_size, output_size)
        self.ahead = ahead
        self.back = ReadingOrder(back, "backward")
        self.combine = combine
        self.gate = Linear(2 * output_size, output_size) if combine == "gate" else None

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:
        ahead, back = self.ahead.read(inputs, lengths), self.back.read(inputs, lengths)
        if self.combine == "sum":
            return ahead + back
        if self.combine == "product":
            return ahead * back
        both = torch.cat([ahead, back], dim=2)
        if self.gate is None:
            return both
        return torch.lerp(back, ahead, self.gate(both).sigmoid())
