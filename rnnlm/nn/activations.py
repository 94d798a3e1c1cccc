"""Functions of one number that layers apply to every feature."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["none", "relu", "gelu", "silu", "tanh"]


def _none(features: Tensor) -> Tensor:
    return features


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": _none,
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
