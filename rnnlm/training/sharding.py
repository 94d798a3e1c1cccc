"""Optimizer state divided among the ranks (ZeRO, stage 1; Rajbhandari, Rasley, Ruwase & He 2020).

Of a parameter of n elements, rank r of W owns [r c, (r + 1) c); c is n / W rounded up to a multiple of BLOCK.
A step, whose gradients are already the sums over all ranks:

    update the elements that are this rank's own, with moments for these only    2 n / W numbers for Adam instead of 2 n
    gather the elements of all ranks                                             n more numbers on the way

An optimizer that treats each element by itself does the same arithmetic however parameters are cut, so the weights are
those of the undivided optimizer to the bit. Checkpoints hold whole moments: any number of ranks, divided or not, goes
on from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rnnlm.training.optimizers.base import OptimizerConfig
from rnnlm.world import World

BLOCK = 64  # elements: vectorised loops then cut a piece where they cut the whole parameter, and round alike


def sharding_problems(optimizer: OptimizerConfig) -> list[str]:
    """What speaks against dividing the state of such an optimizer; empty if nothing does."""
    if optimizer.elementwise:
        return []
    name = type(optimizer).__name__.removesuffix("Config")
    return [f"optimizer_sharding: {name} needs whole matrices; set it to false, or optimizer=adamw or optimizer=sgd"]


@dataclass(frozen=True)
class Share:
    """Where the elements of a parameter are."""

    parameter: nn.Parameter
    length: int  # of a rank's part, padded
    place: int  # of this part in the vector of all that a rank owns
    own: slice  # this rank's elements
    piece: nn.Parameter  # a view of them, as the optimizer sees it; may be empty


class ShardedOptimizer(torch.optim.Optimizer):
    """An elementwise optimizer of whole parameters, made to keep and update this rank's elements only."""

    def __init__(self, whole: torch.optim.Optimizer, world: World) -> None:
        self._inner, self._world = whole, world
        self._shares: list[Share] = []  # in the order in which a checkpoint counts parameters
        self._length = 0
        for group in whole.param_groups:
            group["params"] = [self._share(parameter).piece for parameter in group["params"]]
        super().__init__(whole.param_groups, {})
        self.state = whole.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        assert closure is None, "the loop calls backward itself"
        for share in self._shares:
            share.piece.data = share.parameter.view(-1)[share.own]  # anew: cuDNN may have moved the weights
            gradient = share.parameter.grad
            share.piece.grad = None if gradient is None else gradient.reshape(-1)[share.own]
        self._inner.step()
        weights = self._gathered([share.piece for share in self._shares])
        for share, elements in zip(self._shares, weights, strict=True):
            share.parameter.copy_(elements)

    def whole_state(self) -> list[dict[str, Tensor]]:
        """The state of every parameter, gathered from all ranks; every rank must call it."""
        own = [self._tensors(share) for share in self._shares]
        names = sorted({name for state in own for name, value in state.items() if value.dim()})
        whole: list[dict[str, Tensor]] = [{n: v for n, v in state.items() if not v.dim()} for state in own]
        for name in names:
            gathered = self._gathered([state.get(name) for state in own])
            for state, found, elements in zip(own, whole, gathered, strict=True):
                if name in state:
                    found[name] = elements
        return whole

    def take_state(self, index: int, name: str, value: Tensor) -> None:
        """Keep this rank's part of something that `whole_state` gave."""
        share = self._shares[index]
        part = value.reshape(-1)[share.own] if value.dim() else value
        self.state[share.piece][name] = part.to(share.parameter.device, copy=True)

    def _share(self, parameter: nn.Parameter) -> Share:
        count, world = parameter.numel(), self._world
        length = -(-count // (world.size * BLOCK)) * BLOCK
        own = slice(min(count, world.rank * length), min(count, (world.rank + 1) * length))
        piece = nn.Parameter(parameter.detach().view(-1)[own])
        self._shares.append(Share(parameter, length, self._length, own, piece))
        self._length += length
        return self._shares[-1]

    def _tensors(self, share: Share) -> dict[str, Tensor]:
        return {name: value for name, value in self.state.get(share.piece, {}).items() if isinstance(value, Tensor)}

    def _gathered(self, pieces: Sequence[Tensor | None]) -> list[Tensor]:
        """Whole tensors of the parameters' shapes from the pieces of all ranks, one a share; None counts as zeros."""
        own = self._shares[0].parameter.new_zeros(self._length)
        for share, piece in zip(self._shares, pieces, strict=True):
            if piece is not None:
                own[share.place : share.place + piece.numel()] = piece.detach()
        rows = self._world.gather_rows(own)
        return [
            rows[:, s.place : s.place + s.length].reshape(-1)[: s.parameter.numel()].view_as(s.parameter)
            for s in self._shares
        ]
