"""Train a model on token tables, alone or as N data-parallel workers; run again to go on where it stopped.

    python -m jobs.train train_tokens=outputs/tokens/train valid_tokens=outputs/tokens/valid \
        tokenizer_path=outputs/tokenizer output=outputs/model cell=lstm
"""

import os
import sys
from dataclasses import fields
from typing import Any

import torch

from jobs.app import run_job
from jobs.progress import ProgressLine, progress_line
from jobs.schemas import TrainJob
from jobs.termination import sigterm_noted
from rnnlm.checkpoint import loaded
from rnnlm.config import to_dict
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.errors import ConfigError, EnvironmentFailure
from rnnlm.storage import open_location
from rnnlm.training.loop import train
from rnnlm.training.metrics import Row
from rnnlm.training.settings import Hooks, TrainingConfig, TrainingData, TrainingSummary
from rnnlm.training.sharding import sharding_problems


def train_model(job: TrainJob) -> None:
    """Train and say how it went."""
    data = load_data(job)
    identity = run_identity(job, data)
    problems = job.batching.problems(job.workers)
    if job.optimizer_sharding:
        problems += sharding_problems(job.optimizer)
    if problems:
        raise ConfigError(problems)
    print(f"train: {data.train}; validation: {data.valid}", file=sys.stderr)
    with progress_line("train", 1.0) as line:
        if job.workers == 1:
            summary = _train_here(job, data, identity, line)
        else:
            from jobs.distributed.train_workers import train_on_ray  # noqa: PLC0415 - importing Ray takes a second

            summary = train_on_ray(job, identity, on_row=lambda row, total: show(line, row, total))
    open_location(job.output).join("settings.json").write_json(to_dict(job))
    print(
        f"train: {summary.steps:,} steps, {summary.tokens:,} targets in {summary.wall_seconds:.1f} s "
        f"({summary.tokens / max(1e-9, summary.wall_seconds):,.0f} a second), {summary.num_parameters:,} parameters; "
        f"best validation {summary.best_valid_nll:.4f} nats a target at step {summary.best_step:,}\n"
        f"output: {job.output}"
    )


def load_data(job: TrainJob) -> TrainingData:
    """Read tokenizer and tables, checked against each other."""
    tokenizer = load_tokenizer(open_location(job.tokenizer_path))
    return TrainingData(
        train=job.task.read_table(job.train_tokens, tokenizer, for_training=True),
        valid=job.task.read_table(job.valid_tokens, tokenizer, for_training=False),
        tokenizer=tokenizer,
    )


def run_identity(job: TrainJob, data: TrainingData) -> dict[str, Any]:
    """All that must stay the same for an unfinished run to go on; workers, threads and trackers may change."""
    settings = to_dict(job)
    same = {field.name: settings[field.name] for field in fields(TrainingConfig)}
    return {
        **same,
        "tokenizer": data.tokenizer.fingerprint,
        "train_tokens": data.train.fingerprint,
        "valid_tokens": data.valid.fingerprint,
        "init_from": job.init_from and loaded(job.init_from).fingerprint,
    }


def training_config(job: TrainJob) -> TrainingConfig:
    """The part of the job that the library's loop knows."""
    return TrainingConfig(**{field.name: getattr(job, field.name) for field in fields(TrainingConfig)})


def bound_kernel_cache() -> None:
    """Let oneDNN keep fewer compiled kernels; call it before the first product.

    It compiles one a shape, 1 to 4 MB each, and keeps 1,024. Batches of pairs nearly all have shapes of their own, so
    that a training of 7 M parameters grew to 4.5 GB; compiling anew takes 3 % of its time.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def choose_device(wanted: str) -> str:
    """`auto` is the GPU if there is one."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise EnvironmentFailure("device=cuda, but torch sees no GPU", todo="set device=auto or device=cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def show(line: ProgressLine, row: Row, total_steps: int) -> None:
    """One row of metrics as a line of progress."""
    if row["kind"] == "train":
        line.update(
            row["step"] / total_steps,
            f"step {row['step']:,} of {total_steps:,}, {row['tokens']:,} targets, "
            f"{row['tokens_per_second']:,.0f} tokens/s, {row['nll']:.3f} nats",
        )


def _train_here(job: TrainJob, data: TrainingData, identity: dict[str, Any], line: ProgressLine) -> TrainingSummary:
    bound_kernel_cache()
    torch.set_num_threads(job.threads or os.cpu_count() or 1)
    with sigterm_noted() as told:  # the loop looks at it after each step, saves and leaves
        return train(
            training_config(job),
            data,
            open_location(job.output),
            tracker=job.tracker,
            optimizer_sharding=job.optimizer_sharding,
            device=choose_device(job.device),
            hooks=Hooks(on_row=lambda row, total: show(line, row, total), should_stop=told.is_set),
            identity=identity,
            init_from=loaded(job.init_from) if job.init_from else None,
        )


if __name__ == "__main__":
    run_job("train", TrainJob, train_model)
