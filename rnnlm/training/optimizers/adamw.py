"""Adam with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019), in torch's fused form.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
    w_t = (1 - rate decay) w_{t-1} - rate (m_t / (1 - beta1^t)) / (sqrt(v_t / (1 - beta2^t)) + epsilon)

A gradient that is a sparse tensor updates the rows it has and nothing else (lazy Adam): the other rows keep weights and
moments to the bit, and do not decay. Looking for the zero rows of a dense gradient instead costs as much as it saves:
the pass over the gradient is as long as the whole fused update.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.adamw import adamw

from rnnlm.config import config
from rnnlm.training.optimizers.base import OptimizerConfig


@config
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    elementwise: ClassVar[bool] = True
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    "Decay of the mean of gradients."
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0)
    "Decay of the mean of squared gradients."
    epsilon: float = Field(default=1e-8, gt=0.0)
    "Keeps the division finite."

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        betas = (self.beta1, self.beta2)
        return AdamW(self.groups(model), lr=self.learning_rate, betas=betas, eps=self.epsilon, fused=True)


class AdamW(torch.optim.AdamW):
    """torch's, for dense gradients and for sparse ones."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        assert closure is None, "the loop calls backward itself"
        set_aside: list[tuple[nn.Parameter, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    set_aside.append((parameter, parameter.grad))
                    self._update_rows(parameter, parameter.grad.coalesce(), group)
                    parameter.grad = None
        super().step()
        for parameter, gradient in set_aside:
            parameter.grad = gradient

    def _update_rows(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        """Take the rows of `gradient` out of weights and moments, update them as a small matrix, put them back."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        rows = gradient.indices()[0]
        whole = [parameter, state["exp_avg"], state["exp_avg_sq"]]
        weights, mean, mean_square = (tensor.index_select(0, rows) for tensor in whole)
        adamw(
            [weights],
            [gradient.values()],
            [mean],
            [mean_square],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for tensor, part in zip(whole, (weights, mean, mean_square), strict=True):
            tensor.index_copy_(0, rows, part)
