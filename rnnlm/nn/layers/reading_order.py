"""A layer that reads the positions of each row in another order; its outputs stand where the inputs stood.

    y at position p_k = f(x at p_1, ..., x at p_k)        p_1, ..., p_n: the order for a row of length n, from 0

    backward      n-1, n-2, ..., 0
    middle_out    m, m+1, m-1, m+2, m-2, ...              m = floor((n-1) / 2); every position once

So for n = 5 middle_out reads 2 3 1 4 0, for n = 4 it reads 1 2 0 3. Backward is what a bidirectional network
(Schuster & Paliwal 1997) does in its second direction; the middle as a place to begin is from Mehri & Sigal 2018
("Middle-out decoding"). A row's order depends on its length alone, so padding changes nothing.
"""

from typing import Literal

import torch
from torch import Tensor

from rnnlm.config import config
from rnnlm.nn.layer import Layer, LayerConfig, checked_size
from rnnlm.types import LayerInputs, LayerOutputs, Lengths, Positions

Order = Literal["backward", "middle_out"]


@config
class ReadingOrderConfig(LayerConfig):
    """An inner layer reads the sequence in another order."""

    inner: LayerConfig
    "What reads."
    order: Order = "backward"
    "backward: from the end; middle_out: from the middle outwards, right and left in turn."

    def output_size(self, input_size: int) -> int:
        return checked_size("inner", self.inner, input_size)

    def looks_ahead(self) -> str:
        return f"{type(self).__name__} reads the sequence in another order ({self.order})"

    def build(self, input_size: int) -> "ReadingOrder":
        return ReadingOrder(self.inner.build(input_size), self.order)


class ReadingOrder(Layer):
    """Reads whole sequences only."""

    looks_ahead = True

    def __init__(self, inner: Layer, order: Order) -> None:
        super().__init__(inner.input_size, inner.output_size)
        self.inner = inner
        self.order: Order = order

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:
        order = positions_in_order(self.order, lengths.to(inputs.device), inputs.shape[1])
        return reordered(self.inner.read(reordered(inputs, order), lengths), order.argsort(1))


def positions_in_order(order: Order, lengths: Lengths, steps: int) -> Positions:
    """B T: the position that a row reads at each step; behind its length, step t reads position t."""
    step = torch.arange(steps, device=lengths.device).expand(len(lengths), -1)
    length = lengths[:, None]
    if order == "backward":
        position = length - 1 - step
    else:
        distance = (step + 1) // 2
        position = (length - 1) // 2 + torch.where(step % 2 == 1, distance, -distance)
    return torch.where(step < length, position, step)


def reordered(sequence: Tensor, order: Positions) -> Tensor:
    """B T D with `order[b, t]` the place from which row b takes what stands at t."""
    rows, steps = order.shape
    places = order + torch.arange(rows, device=order.device)[:, None] * steps
    # Whole vectors are copied; gather would look up each of their numbers, 13 times as slowly.
    found: Tensor = sequence.flatten(0, 1).index_select(0, places.flatten()).unflatten(0, (rows, steps))
    return found
