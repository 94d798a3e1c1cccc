"""Where a model computes: choosing the device, putting the model there, and naming what it is."""

import functools
import platform
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.bulk.work import Device
from rnnlm.checkpoint import Checkpoint
from rnnlm.errors import EnvironmentFailure


def put_on_device(checkpoint: Checkpoint, device: Device) -> str:
    """Move the model; returns the name of the processor that will compute.

    `auto` takes the first GPU this process sees, else the CPU. Raises EnvironmentFailure if `cuda` is asked for and
    there is none.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise EnvironmentFailure(
            "this process sees no GPU that torch can use", todo="give the workers one, or set cluster.gpus=0"
        )
    chosen = "cuda" if has_gpu and device != "cpu" else "cpu"
    checkpoint.model.to(chosen)
    return torch.cuda.get_device_name() if chosen == "cuda" else cpu_name()


class OnItsWay:
    """A tensor's numbers on their way to this process. A GPU copies them when it comes to it, and can be given more
    work meanwhile."""

    def __init__(self, tensor: Tensor) -> None:
        self._here = tensor
        self._arrived: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self._here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._here.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.current_stream(tensor.device).record_event()

    def numpy(self) -> npt.NDArray[Any]:
        """The numbers; waits for them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        result: npt.NDArray[Any] = self._here.numpy()
        return result


def release_cached_memory() -> None:
    """Give back what torch keeps for later on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@functools.cache
def cpu_name() -> str:
    """The model of this machine's processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
