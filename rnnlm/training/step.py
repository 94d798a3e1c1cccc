"""One step of training, the same on every rank:

count  = sum over ranks and batches of the number of targets  before any gradient
loss   = this rank's sum of nll / count, batch after batch    so 1, 2 and 8 workers agree
grads  = sum over ranks; checked to be finite; clipped to a global norm
update at the schedule's rate
"""

import math
from typing import Any

import torch
from torch import nn

from rnnlm.errors import NonFiniteError
from rnnlm.stopwatch import Stopwatch, lap
from rnnlm.training.optimizers.base import set_learning_rate
from rnnlm.training.run_state import RunState
from rnnlm.training.settings import Hooks, TrainingConfig
from rnnlm.world import World

PARTS = ("data", "forward", "softmax", "backward", "optimizer", "communication", "other")
"What a step's time is made of. The fused softmax makes its gradients as it goes: they count as softmax, not backward."


class Step:
    """Moves the state of a run on, one step at a time; knows how large the last gradient was and where time went."""

    def __init__(self, settings: TrainingConfig, now: RunState, world: World, total_steps: int, hooks: Hooks) -> None:
        self.settings, self.now, self.world, self.hooks = settings, now, world, hooks
        self.total_steps, self.progress = total_steps, now.progress
        self.grad_norm = math.nan
        self.watch = Stopwatch()

    def take(self) -> tuple[bool, bool]:
        """Forward, backward, update; True if any rank was asked to stop, True if the time is up."""
        progress, loop = self.progress, self.settings.loop
        before = sum(self.watch.seconds.values())
        with self.watch.running("other"):
            with lap("data"):
                batches, factor = self.next_batches()
            count = sum(self.settings.task.num_targets(batch) for batch in batches)
            late = loop.max_minutes is not None and progress.wall_seconds >= 60.0 * loop.max_minutes
            shared = torch.tensor([count, self.hooks.should_stop(), late], dtype=torch.float64, device=self.now.device)
            with lap("communication"):
                num_targets, stops, lates = self.world.sum(shared).tolist()
            nll = self.gradients(batches, num_targets)
            with lap("communication"):
                self.world.sum_gradients(self.now.model)
            with lap("optimizer"):
                self.update(factor, nll / num_targets)
        progress.tokens += int(num_targets)
        progress.window_nll += nll
        progress.window_targets += int(num_targets)
        seconds = sum(self.watch.seconds.values()) - before
        progress.window_seconds += seconds
        progress.wall_seconds += seconds
        return bool(stops > 0), bool(lates > 0)

    def next_batches(self) -> tuple[list[Any], float]:
        """The batches of a step, and their size beside usual ones."""
        batches, factors = [], []
        for _ in range(self.settings.loop.accumulate):
            batches.append(self.now.stream.next())
            factors.append(self.now.stream.learning_rate_factor)
        return batches, sum(factors) / len(factors)

    def gradients(self, batches: list[Any], num_targets: float) -> float:
        """Add up this rank's gradients of the mean over `num_targets`; the sum of this rank's nll."""
        self.now.model.zero_grad(set_to_none=True)
        nll = 0.0
        for batch in batches:
            with lap("forward"), self.precision():
                loss, self.now.carried = self.settings.task.loss(self.now.model, batch, self.now.carried)
            with lap("backward"):
                ((loss.nll if loss.objective is None else loss.objective) / num_targets).backward()
            nll += loss.nll.item()
        return nll

    def update(self, factor: float, nll: float) -> None:
        """Clip, check, and take the step; `nll` is this rank's part of the mean, for the error."""
        settings, progress, model = self.settings, self.progress, self.now.model
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.grad_norm = norm.item()
        # The summed gradient is the same on every rank, so all of them see a bad step and stop together.
        if not math.isfinite(self.grad_norm):
            names = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            raise NonFiniteError(
                f"the gradient of step {progress.step + 1} is not finite in {', '.join(names[:3]) or 'its norm'} "
                f"(loss {nll:.4g} nats on rank {self.world.rank})",
                todo="lower optimizer.learning_rate; the last checkpoint before it is kept",
            )
        nn.utils.clip_grads_with_norm_(model.parameters(), settings.loop.clip_norm, norm)
        factor *= settings.schedule.factor(progress.step, self.total_steps)
        set_learning_rate(self.now.optimizer, settings.optimizer.learning_rate * factor)
        self.now.optimizer.step()
        progress.step += 1
        if self.now.averager is not None:
            self.now.averager.update(progress.step)

    def precision(self) -> torch.autocast:
        """Within, large products are done in the precision asked for."""
        return torch.autocast(self.now.device.type, torch.bfloat16, enabled=self.settings.loop.precision == "bfloat16")

    def shares(self) -> dict[str, float]:
        """Each part's share of the steps' time on this rank, since this was last asked."""
        seconds, total = self.watch.seconds, sum(self.watch.seconds.values())
        self.watch.reset()
        return {f"{name}_share": round(seconds.get(name, 0.0) / total, 4) for name in PARTS}
