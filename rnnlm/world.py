"""Which of how many data-parallel processes this is, and the few collectives that training needs.

Code that trains never asks whether it is distributed: `SingleWorld` answers for one process, `TorchWorld` for a
process group that torchrun or Ray Train has set up.
"""

from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn


@runtime_checkable
class World(Protocol):
    """A rank in a group of `size` equal processes."""

    rank: int
    size: int

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over all ranks; the same result on each."""

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its sum over all ranks (the loss is already divided by the global count)."""

    def broadcast(self, model: nn.Module) -> None:
        """Give every rank the parameters and buffers of rank 0."""

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Stack equally shaped `rows` of all ranks along a new first dimension."""

    def barrier(self) -> None:
        """Wait until every rank is here."""


class SingleWorld:
    """One process: every collective is the identity."""

    rank = 0
    size = 1

    def sum(self, values: Tensor) -> Tensor:
        return values

    def sum_gradients(self, model: nn.Module) -> None:
        pass

    def broadcast(self, model: nn.Module) -> None:
        pass

    def gather_rows(self, rows: Tensor) -> Tensor:
        return rows.unsqueeze(0)

    def barrier(self) -> None:
        pass


class TorchWorld:
    """The default process group of torch.distributed (gloo on CPU, NCCL on GPU)."""

    def __init__(self) -> None:
        assert dist.is_initialized(), "TorchWorld needs an initialised process group"
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def sum(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    def sum_gradients(self, model: nn.Module) -> None:
        # One flat buffer: a single all-reduce costs less than one for each of many small tensors.
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    def broadcast(self, model: nn.Module) -> None:
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.data, src=0)

    def gather_rows(self, rows: Tensor) -> Tensor:
        rows = rows.contiguous()  # gloo reads memory as it lies
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows)
        return torch.stack(parts)

    def barrier(self) -> None:
        dist.barrier()
