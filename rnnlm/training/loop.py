"""The training loop: one, explicit, for every task. It runs alone, under torchrun, or in Ray Train workers.

One step, the same on every rank:

    count  = sum over ranks and batches of the number of targets  before any gradient
    loss   = this rank's sum of nll / count, batch after batch    so 1, 2 and 8 workers agree
    grads  = sum over ranks; clipped to a global norm; checked to be finite
    update, schedule, log

Kill it at any step and start it again: it goes on from the last checkpoint with the same data, random numbers and
hidden states. At equal world size on a CPU the parameters come out the same to the bit.
"""

import math
import time
from typing import Any

import torch
from torch import nn

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
from rnnlm.stopwatch import Stopwatch, lap
from rnnlm.storage import Location, open_location
from rnnlm.training.metrics import MetricsLog, NoTrackerConfig, Row, TrackerConfig
from rnnlm.training.optimizers.base import set_learning_rate
from rnnlm.training.run_state import RunState
from rnnlm.training.settings import Hooks, TrainingConfig, TrainingData, TrainingSummary
from rnnlm.training.start import check_identity, check_start, take_weights, write_identity
from rnnlm.world import SingleWorld, World

PARTS = ("data", "forward", "softmax", "backward", "optimizer", "communication", "other")
"What a step's time is made of. The fused softmax makes its gradients as it goes: they count as softmax, not backward."


def train(
    settings: TrainingConfig,
    data: TrainingData,
    folder: Location | str,
    *,
    tracker: TrackerConfig | None = None,
    world: World | None = None,
    device: str = "cpu",
    hooks: Hooks | None = None,
    identity: dict[str, Any] | None = None,
    init_from: Checkpoint | None = None,
) -> TrainingSummary:
    """Train in the run folder `folder`, or go on if it holds an unfinished run of the same `identity`.

    `identity` names everything that must not change between the parts of a run; RefusedError shows what did.
    A new run begins with fresh weights, or with those of `init_from` (fine-tuning).
    Raises ConfigError where model, data and batches do not fit one another, NonFiniteError (the last good checkpoint
    stays) and TerminatedError (state was saved).
    """
    folder = open_location(folder) if isinstance(folder, str) else folder
    world = world or SingleWorld()
    problems = settings.batching.problems(world.size)
    if problems:
        raise ConfigError(problems)
    if init_from is not None:
        check_start(init_from, settings.task, data.tokenizer)
    if world.rank == 0:
        check_identity(folder, identity or {})
    run = _Run(settings, data, folder, world, torch.device(device), hooks or Hooks())
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
        model = settings.task.build_model(data.tokenizer.vocab_size).to(device)
        world.broadcast(model)
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
        self.grad_norm = math.nan
        self.watch = Stopwatch()

    def begin(self, init_from: Checkpoint | None) -> None:
        """Go back to the last checkpoint; if there is none, to the start."""
        fresh = not self.folder.join(INDEX).exists()
        if fresh:
            self.settings.task.prepare(self.now.model, self.data.train, self.data.tokenizer)
            if init_from is not None:
                take_weights(self.now.model, init_from)
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
            stop, late = self.one_step()
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

    def one_step(self) -> tuple[bool, bool]:
        """Forward, backward, update; True if any rank was asked to stop, True if the time is up."""
        progress, loop = self.progress, self.settings.loop
        before = sum(self.watch.seconds.values())
        with self.watch.running("other"):
            with lap("data"):
                batches, factor = self.next_batches()
            count = sum(self.settings.task.num_targets(batch) for batch in batches)
            late = loop.max_minutes is not None and progress.wall_seconds >= 60.0 * loop.max_minutes
            shared = torch.tensor([count, self.hooks.should_stop(), late], dtype=torch.float64, device=self.device)
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
        self.now.optimizer.zero_grad(set_to_none=True)
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
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.loop.precision == "bfloat16")

    def log_training(self, log: MetricsLog | None) -> None:
        progress = self.progress
        nll = self.world.sum(torch.tensor([progress.window_nll], dtype=torch.float64, device=self.device)).item()
        row = self.row(
            "train",
            nll=nll / max(1, progress.window_targets),
            learning_rate=self.now.optimizer.param_groups[0]["lr"],
            grad_norm=self.grad_norm,
            tokens_per_second=progress.window_targets / max(1e-9, progress.window_seconds),
            **self.shares(),
        )
        progress.window_nll, progress.window_targets, progress.window_seconds = 0.0, 0, 0.0
        self.emit(row, log)

    def shares(self) -> dict[str, float]:
        """Each part's share of the steps' time on this rank, since this was last asked."""
        seconds, total = self.watch.seconds, sum(self.watch.seconds.values())
        self.watch.reset()
        return {f"{name}_share": round(seconds.get(name, 0.0) / total, 4) for name in PARTS}

    def validate(self, log: MetricsLog | None) -> bool:
        """Measure on the held-out data; True if it is the best so far."""
        began = time.perf_counter()
        with self.now.averaged(), self.precision():
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
