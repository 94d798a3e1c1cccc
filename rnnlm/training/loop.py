"""The training loop: one, explicit, for every task. It runs alone, under torchrun, or in Ray Train workers.

Kill it at any step and start it again: it goes on from the last checkpoint with the same data, random numbers and
hidden states. At equal world size on a CPU the parameters come out the same to the bit.
"""

import math
import time
from typing import Any

import torch

from rnnlm.checkpoint import (
    INDEX,
    Checkpoint,
    load_training_state,
    load_weights,
    read_weights,
    resolve_checkpoint,
    save_checkpoint,
)
from rnnlm.determinism import seed_torch
from rnnlm.errors import ConfigError, NonFiniteError, TerminatedError
from rnnlm.storage import Location, open_location
from rnnlm.training.metrics import MetricsLog, NoTrackerConfig, Row, TrackerConfig
from rnnlm.training.run_state import RunState
from rnnlm.training.settings import Hooks, TrainingConfig, TrainingData, TrainingSummary
from rnnlm.training.sharding import ShardedOptimizer, sharding_problems
from rnnlm.training.start import check_identity, check_start, take_weights, write_identity
from rnnlm.training.step import Step
from rnnlm.world import SingleWorld, World


def train(
    settings: TrainingConfig,
    data: TrainingData,
    folder: Location | str,
    *,
    tracker: TrackerConfig | None = None,
    world: World | None = None,
    optimizer_sharding: bool = False,
    device: str = "cpu",
    hooks: Hooks | None = None,
    identity: dict[str, Any] | None = None,
    init_from: Checkpoint | None = None,
) -> TrainingSummary:
    """Train in the run folder `folder`, or go on if it holds an unfinished run of the same `identity`.

    `identity` names everything that must not change between the parts of a run; RefusedError shows what did.
    A new run begins with fresh weights, or with those of `init_from` (fine-tuning). With `optimizer_sharding` each rank
    keeps its part of the optimizer's state only; the outcome is the same, and it may change between the parts of a run.
    Raises ConfigError where model, data and batches do not fit one another, NonFiniteError (the last good checkpoint
    stays) and TerminatedError (state was saved).
    """
    folder = open_location(folder) if isinstance(folder, str) else folder
    world = world or SingleWorld()
    problems = settings.batching.problems(world.size)
    if optimizer_sharding:
        problems += sharding_problems(settings.optimizer)
    if problems:
        raise ConfigError(problems)
    if init_from is not None:
        check_start(init_from, settings.task, data.tokenizer)
    if world.rank == 0:
        check_identity(folder, identity or {})
    run = _Run(settings, data, folder, world, torch.device(device), hooks or Hooks())
    if optimizer_sharding:
        run.now.optimizer = ShardedOptimizer(run.now.optimizer, world)
    run.begin(init_from)
    world.barrier()
    log = None
    if world.rank == 0:  # all that can be refused was refused: now something is written
        write_identity(folder, identity or {})
        log = MetricsLog(folder, (tracker or NoTrackerConfig()).open(folder), run.progress.step)
    try:
        run.to_the_end(log)
    finally:
        if log is not None:
            log.close()
    return run.summary()


class _Run:
    """One run on one rank: model, optimizer, stream and progress, and the few things done with them."""

    def __init__(
        self,
        settings: TrainingConfig,
        data: TrainingData,
        folder: Location,
        world: World,
        device: torch.device,
        hooks: Hooks,
    ) -> None:
        self.settings, self.data, self.folder, self.world, self.hooks = settings, data, folder, world, hooks
        self.device = device
        seed_torch(settings.seed, "initial weights")
        model = settings.task.build(data.tokenizer).to(device)
        seed_torch(settings.seed, "dropout", world.rank)
        stream = settings.task.open_stream(
            data.train,
            data.tokenizer,
            settings.batching,
            seed=settings.seed,
            rank=world.rank,
            world_size=world.size,
        )
        self.now = RunState(
            model=model,
            optimizer=settings.optimizer.build(model),
            stream=stream,
            carried=settings.task.initial_state(model, settings.batching, world.size),
            seed=settings.seed,
        )
        self.progress = self.now.progress
        loop = settings.loop
        self.total_steps = loop.max_steps or max(1, round(loop.max_epochs * stream.steps_per_epoch / loop.accumulate))
        self.valid_every = loop.valid_every_steps or max(1, math.ceil(self.total_steps / 10))
        self.save_every = loop.save_every_steps or self.valid_every
        self.step = Step(settings, self.now, world, self.total_steps, self.hooks)

    def begin(self, init_from: Checkpoint | None) -> None:
        """Go back to the last checkpoint; if there is none, to the start."""
        fresh = not self.folder.join(INDEX).exists()
        if fresh:
            self.settings.task.prepare(self.now.model, self.data.train, self.data.tokenizer)
            if init_from is not None:
                take_weights(self.now.model, init_from)
            self.world.broadcast(self.now.model)  # another machine may have rounded differently
        self.now.averager = self.settings.averaging.build(self.now.model)  # begins with the weights as prepared
        if fresh:
            return
        folder = resolve_checkpoint(self.folder.address, "last")
        load_weights(self.now.model, read_weights(folder), folder)
        self.now.restore(load_training_state(folder), self.world)

    def to_the_end(self, log: MetricsLog | None) -> None:
        """All remaining steps."""
        loop, progress = self.settings.loop, self.progress
        self.now.model.train()
        while not progress.finished:
            stop, late = self.step.take()
            last = late or progress.step == self.total_steps
            if progress.step % loop.log_every_steps == 0 or last:
                self.log_training(log)
            validated = progress.step % self.valid_every == 0 or last
            improved = validated and self.validate(log)
            progress.finished = last or (loop.patience is not None and progress.misses >= loop.patience)
            if progress.step % self.save_every == 0 or validated or stop:
                if log is not None:
                    log.flush()  # first: a row too many is dropped when the run goes on, a row too few is lost
                self.save(improved=improved)
            if stop and not progress.finished:
                raise TerminatedError(
                    f"stopped after step {progress.step} of {self.total_steps}; the state is saved",
                    todo="run the same command again to go on",
                )

    def log_training(self, log: MetricsLog | None) -> None:
        progress = self.progress
        nll = self.world.sum(torch.tensor([progress.window_nll], dtype=torch.float64, device=self.device)).item()
        row = self.row(
            "train",
            nll=nll / max(1, progress.window_targets),
            learning_rate=self.now.optimizer.param_groups[0]["lr"],
            grad_norm=self.step.grad_norm,
            tokens_per_second=progress.window_targets / max(1e-9, progress.window_seconds),
            **self.step.shares(),
        )
        progress.window_nll, progress.window_targets, progress.window_seconds = 0.0, 0, 0.0
        self.emit(row, log)

    def validate(self, log: MetricsLog | None) -> bool:
        """Measure on the held-out data; True if it is the best so far."""
        began = time.perf_counter()
        with self.now.averaged(), self.step.precision():
            loss = self.settings.task.validate(
                self.now.model,
                self.data.valid,
                self.data.tokenizer,
                num_lanes=self.settings.loop.valid_lanes,
                rank=self.world.rank,
                world_size=self.world.size,
            )
        shared = torch.tensor([loss.nll.item(), loss.num_targets], dtype=torch.float64, device=self.device)
        nll, num_targets = self.world.sum(shared).tolist()
        mean = nll / num_targets
        self.progress.wall_seconds += time.perf_counter() - began
        self.emit(self.row("valid", nll=mean, perplexity=math.exp(min(mean, 700.0))), log)
        if not math.isfinite(mean):
            raise NonFiniteError(f"the validation loss after step {self.progress.step} is {mean}")
        if self.now.averager is not None:
            self.now.averager.observe(mean)
        improved = mean < self.progress.best_valid_nll
        self.progress.misses = 0 if improved else self.progress.misses + 1
        if improved:
            self.progress.best_valid_nll, self.progress.best_step = mean, self.progress.step
        return bool(improved)

    def row(self, kind: str, **values: float) -> Row:
        progress = self.progress
        return {
            "kind": kind,
            "step": progress.step,
            "epoch": self.now.stream.epoch,
            "tokens": progress.tokens,
            "wall_seconds": round(progress.wall_seconds, 3),
            **values,
        }

    def emit(self, row: Row, log: MetricsLog | None) -> None:
        if log is not None:
            log.log(row)
            self.hooks.on_row(row, self.total_steps)

    def save(self, *, improved: bool) -> None:
        """Write a checkpoint and point to it; the checkpoints no longer pointed to are removed."""
        training = self.now.capture(self.world)
        if self.world.rank == 0:
            name = f"step-{self.progress.step:08d}"
            with self.now.averaged():
                save_checkpoint(
                    self.folder.join("checkpoints", name),
                    task=self.settings.task,
                    model=self.now.model,
                    tokenizer=self.data.tokenizer,
                    trained={key: training.values[key] for key in ("step", "tokens", "best_valid_nll")},
                    training=training,
                )
            index = self.folder.join(INDEX)
            pointers = index.read_json() if index.exists() else {"best": name}
            pointers["last"] = name
            if improved or self.progress.best_step == 0:  # before the first validation the last is the best
                pointers["best"] = name
            index.write_json(pointers)
            for old in set(self.folder.join("checkpoints").list_names()) - {"index.json", *pointers.values()}:
                self.folder.join("checkpoints", old).delete_dir()
        self.world.barrier()

    def summary(self) -> TrainingSummary:
        progress = self.progress
        return TrainingSummary(
            steps=progress.step,
            tokens=progress.tokens,
            wall_seconds=progress.wall_seconds,
            best_step=progress.best_step,
            best_valid_nll=progress.best_valid_nll,
            num_parameters=sum(p.numel() for p in self.now.model.parameters()),
        )
