"""A search by Ray Tune around the library's training loop: what is drawn, which trials go on, and what they report.

A trial trains in `<output>/trial-<id>` and reports each validation once it is saved. Asynchronous successive halving
(Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020) compares trials at the same share of
their training. In population-based training (Jaderberg et al., 2017) a bad trial takes over folder and checkpoints of a
good one, with some parameters perturbed. Ray Tune's own state lies in `<output>/_sweep/tune`.
"""

import logging
import os
import random
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import torch
from pyarrow import fs
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.search.basic_variant import BasicVariantGenerator

from jobs.app import on_sigterm
from jobs.distributed.cluster import Needs, check_feasible, connect
from jobs.schemas import TrainJob, TuneJob
from jobs.sweep import SWEEP, State, SweepFolder
from jobs.termination import sigterm_noted
from jobs.train import bound_kernel_cache, choose_device, load_data, run_identity, training_config
from jobs.trial import Trial
from jobs.trial_table import Shown, TrialTable, trial_table
from jobs.tune import Dimension, trial_job
from rnnlm.checkpoint import loaded
from rnnlm.config import to_dict
from rnnlm.errors import EnvironmentFailure
from rnnlm.storage import Location, open_location
from rnnlm.training.loop import train
from rnnlm.training.metrics import METRICS, Row, read_metrics
from rnnlm.training.settings import Hooks
from rnnlm.training.start import write_identity

LOSS, PERCENT, ENDED = "valid_nll", "percent", "ended"
EXPERIMENT = "tune"
SAVE_SECONDS = "5"  # between two records of Ray Tune's own state, which a killed search goes on from


def search_on_ray(job: TuneJob, space: Sequence[Dimension], base: Sequence[str], folder: SweepFolder) -> None:
    """All trials of a search, or those that an earlier run of the same command has left; they end up in `folder`."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the run folders have all of it
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the old one keeps silent when told to
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", SAVE_SECONDS)
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    connect(job.address)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the table and the records tell of errors
    check_feasible(1, Needs(job.tune.num_cpus, job.tune.num_gpus))
    needs = {"cpu": job.tune.num_cpus, "gpu": job.tune.num_gpus}
    trainable = tune.with_resources(_trainable(job, space, base), needs)
    storage = open_location(job.output).join(SWEEP)
    path = f"{storage.path}/{EXPERIMENT}"
    with trial_table() as table, sigterm_noted() as told:
        _Watcher.folder, _Watcher.table, _Watcher.space, _Watcher.told = folder, table, space, told
        for name, record in folder.records.items():
            table.rows[name] = Shown(record.state, share=1.0, seconds=record.seconds)
        if tune.Tuner.can_restore(path, storage_filesystem=storage.filesystem):
            tuner = tune.Tuner.restore(
                path, trainable=trainable, restart_errored=True, storage_filesystem=storage.filesystem
            )
        else:
            tuner = _new_search(job, space, trainable, storage)
        try:
            tuner.fit()
        finally:
            folder.interrupt()
            folder.publish(last=True)
            table.draw()


class _Watcher(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Keeps the records of the sweep. Ray Tune pickles it with its own state: what it knows belongs to the class."""

    folder: SweepFolder
    table: TrialTable
    space: Sequence[Dimension]
    told: Event

    def on_trial_start(self, trial: Any, **_: Any) -> None:
        name = trial_name(trial.trial_id)
        row = self.table.rows.setdefault(name, Shown())
        if row.state != "running":  # pbt also starts those that take over
            self.table.begin(name)
            self.folder.begin(Trial(name, typed(self.space, trial.config), None))

    def on_trial_result(self, trial: Any, result: Mapping[str, Any], **_: Any) -> None:
        name = trial_name(trial.trial_id)
        row = self.table.rows[name]
        row.share, row.text, row.best = result[PERCENT] / 100.0, f"step {result['step']:,}", f"{result[LOSS]:.4f}"

    def on_trial_complete(self, trial: Any, **_: Any) -> None:
        self._end(trial, "finished" if trial.last_result.get(ENDED) else "stopped early", "")

    def on_trial_error(self, trial: Any, **_: Any) -> None:
        lines = Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines()  # a traceback
        name, sign, message = lines[-1].partition(": ")
        self._end(trial, "failed", f"{name.rpartition('.')[2]}{sign}{message}")

    def on_step_end(self, **_: Any) -> None:
        self.table.draw()
        if self.told.is_set():
            on_sigterm(signal.SIGTERM, None)

    def _end(self, trial: Any, state: State, error: str) -> None:
        name = trial_name(trial.trial_id)
        seconds = float(trial.last_result.get("time_total_s", 0.0))
        parameters = typed(self.space, trial.config)  # pbt has changed them
        self.folder.end(name, state, seconds, error=error, parameters=parameters)
        self.folder.publish()
        self.table.end(name, state, seconds=seconds, best=self.table.rows[name].best, error=error)


def trial_name(trial_id: str) -> str:
    """The folder of a trial."""
    return f"trial-{trial_id}"


def typed(space: Sequence[Dimension], values: Mapping[str, Any]) -> dict[str, str]:
    """What Ray Tune has drawn, as overrides."""
    return {one.key: one.typed(values[one.key]) for one in space}


def _new_search(job: TuneJob, space: Sequence[Dimension], trainable: Any, storage: Location) -> Any:
    random.seed(job.seed)  # pbt draws from it
    return tune.Tuner(
        trainable,
        param_space={one.key: _domain(one) for one in space},
        tune_config=tune.TuneConfig(
            metric=LOSS,
            mode="min",
            num_samples=job.tune.trials,
            reuse_actors=True,  # a process that has imported torch takes the next trial
            time_budget_s=None if job.tune.minutes is None else 60.0 * job.tune.minutes,
            max_concurrent_trials=job.tune.max_parallel,
            search_alg=_search(job),
            scheduler=_scheduler(job, space),
            trial_dirname_creator=lambda trial: trial_name(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            callbacks=[_Watcher()],
            verbose=0,
        ),
    )


def _domain(one: Dimension) -> Any:
    if one.choices:
        return tune.choice(list(one.choices))
    if one.whole:  # the upper end is not drawn
        draw = tune.lograndint if one.scale == "log" else tune.randint
        return draw(int(one.low), int(one.high) + 1)
    return (tune.loguniform if one.scale == "log" else tune.uniform)(one.low, one.high)


def _search(job: TuneJob) -> Any:
    if job.tune.search == "random":
        return BasicVariantGenerator(random_state=job.seed)
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise EnvironmentFailure(
            f"tune.search=optuna needs the package {error.name}", todo="pip install 'rnnlm[tune]'"
        ) from error
    from ray.tune.search.optuna import OptunaSearch  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(seed=job.seed)


def _scheduler(job: TuneJob, space: Sequence[Dimension]) -> Any:
    settings = job.tune
    if settings.scheduler == "asha":
        return AsyncHyperBandScheduler(
            time_attr=PERCENT,
            max_t=100,
            grace_period=settings.grace_percent,
            reduction_factor=settings.reduction,
            stop_last_trials=False,
        )
    if settings.scheduler == "pbt":
        return PopulationBasedTraining(
            time_attr=PERCENT,
            perturbation_interval=settings.perturb_percent,
            hyperparam_mutations={one.key: list(one.choices) or _domain(one) for one in space},
            custom_explore_fn=_bounded(space),
            log_config=False,
        )
    return FIFOScheduler()


def _bounded(space: Sequence[Dimension]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A perturbed value stays within its interval."""

    def bound(values: dict[str, Any]) -> dict[str, Any]:
        inside = {one.key: min(max(values[one.key], one.low), one.high) for one in space if not one.choices}
        return {**values, **inside}

    return bound


def _trainable(job: TuneJob, space: Sequence[Dimension], base: Sequence[str]) -> Callable[[dict[str, Any]], None]:
    """What a worker runs for a trial."""
    output, directory = open_location(job.output).address, str(Path.cwd())
    threads, copies = job.threads or max(1, int(job.tune.num_cpus)), job.tune.scheduler == "pbt"
    device = "cpu" if job.device == "auto" and not job.tune.num_gpus else job.device

    def run(values: dict[str, Any]) -> None:
        if Path(directory).is_dir():
            os.chdir(directory)
        folder = open_location(output).join(trial_name(tune.get_context().get_trial_id()))
        trial = trial_job(base, typed(space, values), folder.address)
        bound_kernel_cache()
        torch.set_num_threads(threads)
        _train(trial, folder, choose_device(device), _Reporter(folder, copies=copies))

    return run


def _train(job: TrainJob, folder: Location, device: str, reporter: "_Reporter") -> None:
    data = load_data(job)
    identity = run_identity(job, data)
    _take_over(folder, identity)
    train(
        training_config(job),
        data,
        folder,
        tracker=job.tracker,
        device=device,
        hooks=Hooks(on_row=reporter.note, should_stop=reporter.report),
        identity=identity,
        init_from=loaded(job.init_from) if job.init_from else None,
    )
    folder.join("settings.json").write_json(to_dict(job))
    reporter.end()


class _Reporter:
    """Tells Ray Tune of validations. The loop logs one before it saves it, so it is told at the next step."""

    def __init__(self, folder: Location, *, copies: bool) -> None:
        self._folder, self._copies = folder, copies
        self._result: dict[str, Any] | None = None

    def note(self, row: Row, total_steps: int) -> None:
        if row["kind"] == "valid":
            self._result = _result(row, 100.0 * row["step"] / total_steps)

    def report(self) -> bool:
        """Give on what was noted; Ray Tune ends this thread here if the trial is to stop."""
        result, self._result = self._result, None
        if result is not None and self._copies:
            with tempfile.TemporaryDirectory() as name:
                _copy(self._folder, open_location(name))
                tune.report(result, checkpoint=tune.Checkpoint.from_directory(name))
        elif result is not None:
            tune.report(result)
        return False

    def end(self) -> None:
        """The training is over, perhaps since an earlier run of the search."""
        rows = [row for row in read_metrics(self._folder.join(METRICS)) if row["kind"] == "valid"]
        tune.report({**_result(rows[-1], 100.0), ENDED: True})


def _result(row: Row, percent: float) -> dict[str, Any]:
    return {LOSS: row["nll"], PERCENT: percent, "step": row["step"]}


def _take_over(folder: Location, identity: Mapping[str, Any]) -> None:
    """Begin in the state of the checkpoint that Ray Tune hands over, if it does: of pbt, that of a better trial."""
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        folder.delete_dir()
        with checkpoint.as_directory() as name:
            _copy(open_location(name), folder)
        write_identity(folder, dict(identity))


def _copy(source: Location, target: Location) -> None:
    """Checkpoints and metrics of a run, without the identity: another may go on from there."""
    for part in ("checkpoints", METRICS):
        target.make_dir()
        fs.copy_files(
            source.join(part).path,
            target.join(part).path,
            source_filesystem=source.filesystem,
            destination_filesystem=target.filesystem,
        )
