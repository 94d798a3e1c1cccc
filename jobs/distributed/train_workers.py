"""Training as N data-parallel Ray Train workers around the library's one loop.

The loop writes its own checkpoints and resumes from them; Ray Train starts the workers, sets up the process group and
starts them again after a death. A run that gets on is never given up; one that starts again and again from the same
checkpoint is (`Notices`). Its run name is new every time, since the same name would silently resume.
"""

import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Empty, Queue

from jobs.distributed.cluster import Needs, beside_the_driver, check_feasible, connect
from jobs.distributed.meters import Meters
from jobs.distributed.notices import Listener, ListeningTorchConfig, Notices
from jobs.schemas import TrainJob
from jobs.termination import sigterm_noted
from rnnlm.checkpoint import INDEX, loaded
from rnnlm.config import from_dict, to_dict
from rnnlm.errors import EnvironmentFailure, RnnlmError, TerminatedError
from rnnlm.storage import open_location
from rnnlm.training.loop import train
from rnnlm.training.metrics import Row
from rnnlm.training.settings import Hooks, TrainingSummary
from rnnlm.training.start import check_identity
from rnnlm.world import TorchWorld, World


class LeavingError(Exception):
    """A worker has to go and all was saved: tells Ray Train to start the workers again."""


def train_on_ray(job: TrainJob, identity: dict[str, Any], *, on_row: Callable[[Row, int], None]) -> TrainingSummary:
    """Train with `job.workers` workers; rows of metrics come back while it runs."""
    check_identity(open_location(job.output), identity)  # here too: a worker takes a quarter of a minute to say so
    connect(job.address)
    gpu = job.device == "cuda" or (job.device == "auto" and ray.cluster_resources().get("GPU", 0) >= job.workers)
    check_feasible(job.workers, Needs(cpus=1.0, gpus=1.0 if gpu else 0.0))
    rows = Queue(actor_options=beside_the_driver())
    notices = ray.remote(**beside_the_driver())(Notices).remote()
    settings = {"job": _absolute(to_dict(job)), "identity": identity, "rows": rows, "notices": notices, "gpu": gpu}
    trainer = ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config=settings,
        torch_config=ListeningTorchConfig(),
        scaling_config=ray.train.ScalingConfig(num_workers=job.workers, use_gpu=gpu),
        run_config=ray.train.RunConfig(
            name=f"rnnlm-{uuid.uuid4().hex[:12]}",
            storage_path=tempfile.gettempdir(),
            failure_config=ray.train.FailureConfig(max_failures=-1),  # Notices count
        ),
    )
    done = threading.Event()
    with sigterm_noted() as told:
        listener = threading.Thread(target=_listen, args=(rows, notices, on_row, told, done), daemon=True)
        listener.start()
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            last = (str(error).strip().splitlines() or ["?"])[-1]
            raise EnvironmentFailure(
                f"Ray Train failed: {last}", todo="see the logs of the cluster (`ray logs`)"
            ) from error
        finally:
            done.set()
            listener.join(timeout=5.0)
            rows.shutdown()
            ray.kill(notices)
    return _summary(result.return_value)


def _worker(config: dict[str, Any]) -> TrainingSummary | RnnlmError:
    """What each worker runs. A verdict is returned, not raised: trying again would not help."""
    job, world, rows, notices = from_dict(TrainJob, config["job"]), TorchWorld(), config["rows"], config["notices"]
    if world.rank == 0:
        _begin(job, rows, notices)
    world.barrier()
    verdict: RnnlmError | None = ray.get(notices.verdict.remote())
    if verdict is not None:
        return verdict
    try:
        return _train(job, config, world)
    except TerminatedError as error:
        if ray.get(notices.stopping.remote()):
            return error
        raise LeavingError(str(error)) from error
    except Exception as error:
        # Raised all the same: others may wait for this worker. Ray Train ends them all, and the next start hears it.
        ray.get(notices.failed.remote(error if isinstance(error, RnnlmError) else f"{type(error).__name__}: {error}"))
        raise


def _begin(job: TrainJob, rows: Any, notices: Any) -> None:
    """Say where the workers start."""
    index = open_location(job.output).join(INDEX)
    place = index.read_json()["last"] if index.exists() else "the beginning"
    if ray.get(notices.start.remote(place)):
        rows.put(f"the workers start again, from {place}")


def _train(job: TrainJob, config: dict[str, Any], world: World) -> TrainingSummary:
    from jobs.train import bound_kernel_cache, load_data, training_config  # noqa: PLC0415 - jobs.train imports this module's folder

    bound_kernel_cache()
    workers_here = ray.train.get_context().get_local_world_size()
    torch.set_num_threads(job.threads or max(1, (os.cpu_count() or 1) // workers_here))
    meters = Meters("train", job.output)
    if config["gpu"]:
        meters.watch_gpu()

    def on_row(row: Row, total_steps: int) -> None:
        meters.row(row)
        config["rows"].put((row, total_steps))

    return train(
        training_config(job),
        load_data(job),
        open_location(job.output),
        tracker=job.tracker,
        world=world,
        optimizer_sharding=job.optimizer_sharding,
        device="cuda" if config["gpu"] else "cpu",
        hooks=Hooks(on_row=on_row, should_stop=Listener(config["notices"]).heard),
        identity=config["identity"],
        init_from=loaded(job.init_from) if job.init_from else None,
    )


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


def _listen(
    rows: Any, notices: Any, on_row: Callable[[Row, int], None], told: threading.Event, done: threading.Event
) -> None:
    """Show what the workers say; tell them when the driver is told to end."""
    while not done.is_set():
        if told.is_set():
            notices.stop.remote()
        try:
            said = rows.get(timeout=1.0)
        except Empty:
            continue
        except Exception:  # noqa: BLE001 - the queue's actor is gone: the run is ending, progress is not worth an error
            return
        if isinstance(said, str):
            print(said, file=sys.stderr, flush=True)
        else:
            on_row(*said)
