"""Whether a network fits into a given memory, found without taking it: built once from tensors that hold no data."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode


class TooLargeError(Exception):
    """The network has more than the bytes that were allowed."""


def check_fits(build: Callable[[], nn.Module], limit_bytes: int) -> None:
    """Raise TooLargeError as soon as the parameters and buffers of what `build` makes exceed `limit_bytes`."""
    seen: dict[int, Tensor] = {}  # keeps them alive, so that no two have the same id
    taken = 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:  # noqa: ARG001 - torch's signature
        nonlocal taken
        if tensor is not None and id(tensor) not in seen:
            seen[id(tensor)] = tensor
            taken += tensor.numel() * tensor.element_size()
        if taken > limit_bytes:
            raise TooLargeError

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        with torch.device("meta"), _Undrawn():
            build()
    finally:
        for hook in hooks:
            hook.remove()


class _Undrawn(TorchFunctionMode):
    """Draws no normal values into tensors without data: torch would import its compiler for that, which takes 1.3 s."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.normal_ or func is nn.init.normal_:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
