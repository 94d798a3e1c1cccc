"""Training as N data-parallel Ray Train workers around the library's one loop.

The loop writes its own checkpoints and resumes from them; Ray Train starts the workers, sets up the process group and
starts them again after a death. Its run name is new every time, since the same name would silently resume.
"""

import os
import tempfile
import threading
import uuid
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Empty, Queue

from jobs.distributed.cluster import Needs, check_feasible, connect
from jobs.schemas import TrainJob
from rnnlm.checkpoint import loaded
from rnnlm.config import from_dict, to_dict
from rnnlm.errors import EnvironmentFailure, RnnlmError
from rnnlm.storage import open_location
from rnnlm.training.loop import train
from rnnlm.training.metrics import Row
from rnnlm.training.settings import Hooks, TrainingSummary
from rnnlm.world import TorchWorld

MAX_RESTARTS = 3


def train_on_ray(job: TrainJob, identity: dict[str, Any], *, on_row: Callable[[Row, int], None]) -> TrainingSummary:
    """Train with `job.workers` workers; rows of metrics come back while it runs."""
    connect(job.address)
    gpu = job.device == "cuda" or (job.device == "auto" and ray.cluster_resources().get("GPU", 0) >= job.workers)
    check_feasible(job.workers, Needs(cpus=1.0, gpus=1.0 if gpu else 0.0))
    rows = Queue(actor_options={"num_cpus": 0})
    trainer = ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={"job": _absolute(to_dict(job)), "identity": identity, "rows": rows, "gpu": gpu},
        scaling_config=ray.train.ScalingConfig(num_workers=job.workers, use_gpu=gpu),
        run_config=ray.train.RunConfig(
            name=f"rnnlm-{uuid.uuid4().hex[:12]}",
            storage_path=tempfile.gettempdir(),
            failure_config=ray.train.FailureConfig(max_failures=MAX_RESTARTS),
        ),
    )
    done = threading.Event()
    listener = threading.Thread(target=_listen, args=(rows, on_row, done), daemon=True)
    listener.start()
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _unwrapped(error) from error
    finally:
        done.set()
        listener.join(timeout=5.0)
        rows.shutdown()
    return _summary(result.return_value)


def _worker(config: dict[str, Any]) -> TrainingSummary | RnnlmError:
    """What each worker runs. A user's error is returned, not raised: trying again would not help."""
    import torch  # noqa: PLC0415 - in the worker's process

    from jobs.train import bound_kernel_cache, load_data, training_config  # noqa: PLC0415 - jobs.train imports this module's folder

    job = from_dict(TrainJob, config["job"])
    bound_kernel_cache()
    torch.set_num_threads(job.threads or max(1, (os.cpu_count() or 1) // job.workers))
    world, rows = TorchWorld(), config["rows"]
    try:
        return train(
            training_config(job),
            load_data(job),
            open_location(job.output),
            tracker=job.tracker,
            world=world,
            device="cuda" if config["gpu"] else "cpu",
            hooks=Hooks(on_row=lambda row, total: rows.put((row, total))),
            identity=config["identity"],
            init_from=loaded(job.init_from) if job.init_from else None,
        )
    except RnnlmError as error:
        return error


def _summary(outcome: Any) -> TrainingSummary:
    if isinstance(outcome, RnnlmError):
        raise outcome
    assert isinstance(outcome, TrainingSummary)
    return outcome


def _absolute(settings: dict[str, Any]) -> dict[str, Any]:
    """Workers have another working directory: give them full paths."""
    for name in ("train_tokens", "valid_tokens", "tokenizer_path", "output", "init_from"):
        if settings[name] is not None:
            settings[name] = open_location(settings[name]).address
    return settings


def _listen(rows: Any, on_row: Callable[[Row, int], None], done: threading.Event) -> None:
    while not done.is_set():
        try:
            row, total_steps = rows.get(timeout=1.0)
        except Empty:
            continue
        except Exception:  # noqa: BLE001 - the queue's actor is gone: the run is ending, progress is not worth an error
            return
        on_row(row, total_steps)


def _unwrapped(error: Exception) -> Exception:
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, RnnlmError):
            return cause
    return EnvironmentFailure(f"training workers failed: {(str(error).strip().splitlines() or ['?'])[-1]}")
