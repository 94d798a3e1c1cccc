"""Functions of one number that layers apply to every feature."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["none", "relu", "gelu", "silu", "tanh"]


def _none(features: Tensor) -> Tensor:
    return features


def tanh(values: Tensor) -> Tensor:
    """torch's. Where no gradient is recorded, float32 on a CPU goes by 2 sigmoid(2 x) - 1 (1e-7 off near 0): torch's
    sigmoid takes an eighth of the time of its tanh."""
    if torch.is_grad_enabled() or values.dtype != torch.float32 or values.device.type != "cpu":
        return values.tanh()
    return (values * 2.0).sigmoid_().mul_(2.0).sub_(1.0)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": _none,
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": tanh,
}
