"""All that changes while a run trains, and how it is written down and taken up again, exactly.

Saved are the optimizer's moments, the random state of every rank, the hidden states of all lanes, the position in the
data, the counts, and the weights of the run where those of the checkpoint are averages. Lanes are saved in global order
(lane i belongs to rank i mod world size), so a run may go on with another number of workers.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rnnlm.checkpoint import TrainingState
from rnnlm.determinism import seed_torch
from rnnlm.tasks.base import Stream
from rnnlm.training.averaging import Averager
from rnnlm.training.sharding import ShardedOptimizer
from rnnlm.types import State
from rnnlm.world import World


@dataclass
class Progress:
    """Counts of a run; the `window_` fields are sums since the last row of the log."""

    step: int = 0
    tokens: int = 0
    wall_seconds: float = 0.0
    best_step: int = 0  # 0 before the first validation
    best_valid_nll: float = math.inf
    misses: int = 0  # validations since the best
    finished: bool = False  # no step is left, or early stopping or the time limit ended the run
    window_nll: float = 0.0  # of this rank
    window_targets: int = 0  # of all ranks
    window_seconds: float = 0.0


@dataclass
class RunState:
    """One rank's model, optimizer, place in the data, carried hidden state and counts."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    stream: Stream
    carried: State
    seed: int
    progress: Progress = field(default_factory=Progress)
    averager: Averager | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the model has the weights that are validated and kept."""
        return nullcontext() if self.averager is None else self.averager.swap()

    def capture(self, world: World) -> TrainingState:
        """Everything but the weights, gathered from all ranks; every rank must call it."""
        progress = self.progress
        tensors: dict[str, Tensor] = {}
        for kind, random_state in self._random_states().items():
            tensors[f"random.{kind}"] = world.gather_rows(random_state.to(self.device)).cpu()
        for index, rows in enumerate(self.carried):
            gathered = world.gather_rows(rows)  # ranks x lanes of a rank x size
            tensors[f"lanes.{index}"] = gathered.transpose(0, 1).flatten(0, 1).cpu().contiguous()
        for index, state in enumerate(self._optimizer_state()):
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value.detach().cpu().contiguous()
        if self.averager is not None:
            for name, value in self.averager.tensors().items():
                tensors[f"averaging.{name}"] = value.cpu()
        window_nll = torch.tensor([progress.window_nll], dtype=torch.float64, device=self.device)
        values = {
            "step": progress.step,
            "tokens": progress.tokens,
            "wall_seconds": progress.wall_seconds,
            "best_step": progress.best_step,
            "best_valid_nll": progress.best_valid_nll if math.isfinite(progress.best_valid_nll) else None,
            "misses": progress.misses,
            "finished": progress.finished,
            "window_nll": world.sum(window_nll).item(),
            "window_targets": progress.window_targets,
            "window_seconds": progress.window_seconds,
            "stream": self.stream.state(),
        }
        return TrainingState(values, tensors)

    def restore(self, saved: TrainingState, world: World) -> None:
        """Go on from what `capture` gave; the weights are loaded by the caller."""
        values, tensors, progress = saved.values, saved.tensors, self.progress
        for name in ("step", "tokens", "wall_seconds", "best_step", "misses", "finished"):
            setattr(progress, name, values[name])
        progress.window_targets, progress.window_seconds = values["window_targets"], values["window_seconds"]
        progress.best_valid_nll = math.inf if values["best_valid_nll"] is None else values["best_valid_nll"]
        # The sum over all ranks is carried on by one of them.
        progress.window_nll = values["window_nll"] if world.rank == 0 else 0.0
        self.stream.restore(values["stream"])
        lanes = [tensors[f"lanes.{index}"] for index in range(len(self.carried))]
        self.carried = tuple(rows[world.rank :: world.size].to(self.device) for rows in lanes)
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "optimizer":
                index, _, name = rest.partition(".")
                self._take_optimizer_state(int(index), name, value)
        if self.averager is not None:
            prefix = "averaging."
            self.averager.restore({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        if all(len(tensors.get(f"random.{kind}", ())) == world.size for kind in self._random_states()):
            torch.set_rng_state(tensors["random.cpu"][world.rank].clone())  # of its own: torch wants it aligned
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(tensors["random.cuda"][world.rank].clone(), self.device)
        else:  # another number or kind of workers: dropout cannot go on as it was, but must not repeat itself
            seed_torch(self.seed, "dropout", world.rank, progress.step)

    def _random_states(self) -> dict[str, Tensor]:
        """What dropout draws from, by the kind of device."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _optimizer_state(self) -> list[dict[str, Any]]:
        """What the optimizer remembers of each parameter."""
        if isinstance(self.optimizer, ShardedOptimizer):
            return self.optimizer.whole_state()
        return [self.optimizer.state.get(parameter, {}) for parameter in self._parameters()]

    def _take_optimizer_state(self, index: int, name: str, value: Tensor) -> None:
        if isinstance(self.optimizer, ShardedOptimizer):
            self.optimizer.take_state(index, name, value)
        else:
            parameter = self._parameters()[index]
            self.optimizer.state[parameter][name] = value.to(parameter.device)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
