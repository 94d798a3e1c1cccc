"""Muon (Jordan et al. 2024): momentum whose matrices are made orthogonal before they are added to the weights.

    m_t = momentum m_{t-1} + (1 - momentum) g_t
    n_t = momentum m_t + (1 - momentum) g_t                          (Nesterov's)
    w_t = (1 - rate decay) w_{t-1} - rate sqrt(max(1, R / C)) orth(n_t)         for a matrix of R x C

orth(X) sets all singular values of X to about 1 (0.7 to 1.2; small ones less), by a few steps of

    X_0 = X / |X|_F,   A = X X^T,   X <- a X + (b A + c A^2) X,   (a, b, c) = (3.4445, -4.7750, 2.0315)

It is meant for hidden matrices: here those of layers, W and U. Embeddings, softmaxes, biases and other vectors follow
AdamW. A cell keeps the matrices of its gates on top of one another; they are different maps, so each is made orthogonal
on its own (`split_gates`).

torch.optim.Muon takes a parameter as one matrix and works in bfloat16 only; here the gates of a parameter go through
the iteration side by side, in the precision asked for.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.cells.base import Cell
from rnnlm.nn.layer import Layer
from rnnlm.training.optimizers.adamw import AdamW
from rnnlm.training.optimizers.base import OptimizerConfig, grouped

QUINTIC = (3.4445, -4.7750, 2.0315)
SMALLEST_NORM = 1e-7


@config
class MuonConfig(OptimizerConfig):
    """Muon for the matrices of layers, AdamW for all the rest (Jordan et al. 2024)."""

    learning_rate: float = Field(default=0.02, gt=0.0)
    "The peak rate of Muon; the schedule multiplies it by a factor between 0 and 1."
    momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    "Decay of the mean of gradients."
    iterations: int = Field(default=5, ge=1)
    "Newton-Schulz steps that make an update orthogonal."
    split_gates: bool = True
    "Make the block of each gate of a cell orthogonal on its own."
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    "Of the Newton-Schulz steps; bfloat16 is fast, float32 lets runs with other numbers of workers agree closely."
    adamw_learning_rate: float = Field(default=3e-3, gt=0.0)
    "The peak rate of AdamW."
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    "AdamW's decay of the mean of gradients."
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0)
    "AdamW's decay of the mean of squared gradients."
    epsilon: float = Field(default=1e-8, gt=0.0)
    "Keeps AdamW's division finite."

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        heights = hidden_matrices(model, split_gates=self.split_gates)
        others = [parameter for parameter in model.parameters() if parameter not in heights]
        muon = [
            {"params": [p for p, rows in heights.items() if rows == height], "block_rows": height}
            for height in sorted(set(heights.values()))
        ]
        parts: list[torch.optim.Optimizer] = []
        if muon:
            precision = {"bfloat16": torch.bfloat16, "float32": torch.float32}[self.precision]
            defaults = {"lr": self.learning_rate, "weight_decay": self.weight_decay, "momentum": self.momentum}
            parts.append(Muon(muon, {**defaults, "iterations": self.iterations, "precision": precision}))
        scale = self.adamw_learning_rate / self.learning_rate
        rest = [{**group, "lr_scale": scale} for group in grouped(others, self.weight_decay)]
        betas = (self.beta1, self.beta2)
        parts.append(AdamW(rest, lr=self.adamw_learning_rate, betas=betas, eps=self.epsilon, fused=True))
        return Jointly(parts)


def hidden_matrices(model: nn.Module, *, split_gates: bool) -> dict[nn.Parameter, int]:
    """The matrices of all layers of `model` with the rows of the blocks they are made of.

    A parameter of a cell consists of gates if its height is a multiple of the hidden size. An embedding is no hidden
    matrix even if a layer holds it, and neither is a single row or column.
    """
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    heights: dict[nn.Parameter, int] = {}
    for layer in model.modules():  # from outside in: the innermost layer has the last word
        if not isinstance(layer, Layer):
            continue
        for module in layer.modules():
            size = getattr(module, "hidden_size", layer.output_size)
            for parameter in module.parameters(recurse=False):
                if parameter.dim() == 2 and min(parameter.shape) > 1 and parameter not in tables:
                    gates = split_gates and isinstance(layer, Cell) and len(parameter) % size == 0
                    heights[parameter] = size if gates else len(parameter)
    return heights


class Muon(torch.optim.Optimizer):
    """For matrices only; a group's `block_rows` is the height of the blocks its parameters consist of."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        assert closure is None, "the loop calls backward itself"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state, rate, momentum = self.state[parameter], group["lr"], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1.0 - momentum)
        blocks = gradient.lerp(mean, momentum).unflatten(0, (-1, group["block_rows"]))
        update = orthogonal(blocks.to(group["precision"]), group["iterations"]).flatten(0, 1)
        stretch = math.sqrt(max(1.0, group["block_rows"] / parameter.shape[1]))
        parameter.mul_(1.0 - rate * group["weight_decay"])
        parameter.add_(update.to(parameter.dtype), alpha=-rate * stretch)


def orthogonal(blocks: Tensor, iterations: int) -> Tensor:
    """Each of the matrices `blocks` (G R C) with its singular values moved to about 1; zeros stay zeros."""
    a, b, c = QUINTIC
    tall = blocks.shape[1] > blocks.shape[2]
    found = blocks.mT if tall else blocks  # the smaller of the two squares is the cheaper
    found = found / torch.linalg.matrix_norm(found, keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(iterations):
        square = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(square, square, square, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found


class Jointly(torch.optim.Optimizer):
    """Several optimizers of different parameters as one: their groups in a row, and one state."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = parts
        groups = [{**group, "part": index} for index, part in enumerate(parts) for group in part.param_groups]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        assert closure is None, "the loop calls backward itself"
        for index, part in enumerate(self.parts):
            # What counts is what this object holds: the loop and `load_state_dict` change it here.
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["part"] == index]
            part.step()
