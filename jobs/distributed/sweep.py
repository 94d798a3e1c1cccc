"""The trials of a sweep side by side, each a Ray task: `-m hydra/launcher=ray`.

A trial is the job itself, run in a worker's process with plain settings. Finished ones are skipped; all others run: a
job goes on where it stopped by itself. What a trial reports comes through one small actor, the board, which also tells
the trials to stop; so this works across nodes. A trial that fails, or whose process dies, stops no other.
"""

import contextlib
import importlib
import io
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from pydantic import Field
from ray.exceptions import GetTimeoutError, RayError

from jobs.app import guarded, on_sigterm, sweep_title
from jobs.distributed.cluster import Needs, beside_the_driver, check_feasible, connect
from jobs.progress import progress_to
from jobs.sweep import ENDED_WELL, SweepFolder, state_of
from jobs.termination import sigterm_noted
from jobs.trial import Trial
from jobs.trial_table import Shown, TrialTable, trial_table
from rnnlm.config import config, from_dict
from rnnlm.errors import ConfigError, EnvironmentFailure, FailuresError

WAIT_SECONDS = 0.25  # for a trial to end, before the table is drawn again
BEST_SECONDS = 5.0  # between two looks at the losses of running trials
NOTE_SECONDS = 0.5  # between two notes of one trial
STOP_SECONDS = 1.0  # between two looks of a trial at whether it is to stop
MAX_LOG = 100_000  # characters kept of what a trial printed
CONFIG_CODE, ENVIRONMENT_CODE = ConfigError.exit_code, EnvironmentFailure.exit_code


@config
class RayLauncherConfig:
    """Options of `hydra/launcher=ray`, set as hydra.launcher.<name>=..."""

    address: str | None = None
    "Address of a Ray cluster; null joins that of `ray start` on this machine, or starts one."
    num_cpus: float = Field(default=1.0, ge=0.0)
    "CPUs of each trial; it has as many threads, at least one, unless `threads` says otherwise."
    num_gpus: float = Field(default=0.0, ge=0.0)
    "GPUs of each trial; 0.5 lets two share one, 0 keeps it on CPUs."
    max_parallel: int | None = Field(default=None, ge=1)
    "Trials at a time at most; null runs as many as fit."
    max_retries: int = Field(default=1, ge=0)
    "How often a trial is tried again at once when its process or node dies; errors are not tried again."
    grace_seconds: float = Field(default=30.0, ge=0.0)
    "After SIGTERM, trials may take so long to save what they have done."


@dataclass(frozen=True)
class Work:
    """What a worker needs to run a trial."""

    job: str  # module jobs.<job>
    function: str
    name: str
    settings: Mapping[str, Any]
    directory: str  # relative paths are relative to it


@dataclass(frozen=True)
class Ended:
    """How a trial ended, by its worker."""

    exit_code: int
    seconds: float
    error: str
    log: str


class Board:
    """Where trials leave notes and see whether they are to stop."""

    def __init__(self) -> None:
        self._notes: dict[str, tuple[float, str]] = {}
        self._stopping = False

    def note(self, name: str, share: float, text: str) -> None:
        """A trial says how far it is."""
        self._notes[name] = share, text

    def take(self) -> dict[str, tuple[float, str]]:
        """The notes since the last look."""
        notes, self._notes = self._notes, {}
        return notes

    def stop(self) -> None:
        """All trials are to save what they have done, and to end."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether they are."""
        return self._stopping


def sweep_on_ray(
    job: str, function: str, base: Mapping[str, Any], trials: Sequence[Trial], options: Mapping[str, Any]
) -> None:
    """Run the trials that have not ended well; raises FailuresError after all have ended, if some failed."""
    settings = from_dict(RayLauncherConfig, options)
    output = base.get("output")
    if not isinstance(output, str) or output == "???":
        raise ConfigError(f"output: jobs.{job} needs a folder for its trials; set output=...")
    names = [trial.name for trial in trials]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"several trials would be called {twice[0]}; their values differ in signs at most")
    folder = SweepFolder(output, sweep_title(job))
    folder.admit(base, trials)
    connect(settings.address)
    check_feasible(1, Needs(settings.num_cpus, settings.num_gpus))
    with trial_table() as table, sigterm_noted() as told:
        _Sweep(job, function, settings, folder, table).run(trials, told.is_set)
    failed = [name for name in names if folder.records[name].state not in ENDED_WELL]
    print(f"sweep: {len(names) - len(failed)} of {len(names)} trials finished\noutput: {output}/leaderboard.md")
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise FailuresError(
            f"{len(failed)} of {len(names)} trials failed: {', '.join(failed[:3])}{more}",
            todo=f"see {output}/leaderboard.md, mend the cause and run the same command again: it runs only those",
        )


class _Sweep:
    """The driver's side: who waits, who runs, and what becomes of them."""

    def __init__(
        self, job: str, function: str, options: RayLauncherConfig, folder: SweepFolder, table: TrialTable
    ) -> None:
        self._job, self._function, self._options, self._folder, self._table = job, function, options, folder, table
        self._board: Any = ray.remote(**beside_the_driver())(Board).remote()
        self._task: Any = ray.remote(
            num_cpus=options.num_cpus, num_gpus=options.num_gpus, max_retries=options.max_retries
        )(run_trial)
        self._waiting: deque[Trial] = deque()
        self._submitted: dict[Any, Trial] = {}
        self._begun: dict[str, float] = {}
        self._notes: Any = None  # reference of the notes asked for
        self._looked = 0.0

    def run(self, trials: Sequence[Trial], terminated: Callable[[], bool]) -> None:
        """All trials that have not ended well."""
        for trial in trials:
            record = self._folder.records.get(trial.name)
            self._table.rows[trial.name] = row = Shown()
            if record is not None and record.state in ENDED_WELL:
                row.state, row.seconds, row.best, row.share = record.state, record.seconds, self._best(trial.name), 1.0
            else:
                self._waiting.append(trial)
        try:
            while self._waiting or self._submitted:
                self._submit()
                self._collect()
                self._listen()
                self._table.draw()
                if terminated():
                    on_sigterm(signal.SIGTERM, None)
        except RayError as error:
            raise EnvironmentFailure(
                f"the Ray cluster is gone: {_first_line(error)}", todo="run the same command again to go on"
            ) from error
        except BaseException:
            self._stop()
            raise
        finally:
            self._folder.interrupt()
            self._folder.publish(last=True)
            self._table.draw()
            ray.kill(self._board)

    def _submit(self) -> None:
        limit = self._options.max_parallel or len(self._waiting) + len(self._submitted)
        while self._waiting and len(self._submitted) < limit:
            trial = self._waiting.popleft()
            try:
                settings = placed(trial, self._options)
            except ConfigError as error:
                self._begin(trial)
                self._end(trial, Ended(CONFIG_CODE, 0.0, f"ConfigError: {error}", ""))
                continue
            work = Work(self._job, self._function, trial.name, settings, str(Path.cwd()))
            self._submitted[self._task.remote(work, self._board)] = trial

    def _collect(self) -> None:
        if not self._submitted:
            return
        finished, _ = ray.wait(list(self._submitted), num_returns=1, timeout=WAIT_SECONDS)
        for reference in finished:
            trial = self._submitted.pop(reference)
            try:
                ended = ray.get(reference)
            except RayError as error:
                seconds = time.monotonic() - self._begun.get(trial.name, time.monotonic())
                ended = Ended(ENVIRONMENT_CODE, seconds, f"its process died: {_first_line(error)}", "")
            self._begin(trial)
            self._end(trial, ended)

    def _listen(self) -> None:
        by_name = {trial.name: trial for trial in self._submitted.values()}
        self._notes = self._notes or self._board.take.remote()
        answered, _ = ray.wait([self._notes], timeout=0)  # the board, too, may take its time to start
        for name, (share, text) in ray.get(self._notes).items() if answered else ():
            if name in by_name:
                self._begin(by_name[name])
                self._table.rows[name].share, self._table.rows[name].text = share, text
        if answered:
            self._notes = None
        if time.monotonic() - self._looked >= BEST_SECONDS:
            self._looked = time.monotonic()
            for name in by_name.keys() & self._begun.keys():
                self._table.rows[name].best = self._best(name)

    def _begin(self, trial: Trial) -> None:
        if trial.name not in self._begun:
            self._begun[trial.name] = time.monotonic()
            self._folder.begin(trial)
            self._table.begin(trial.name)

    def _end(self, trial: Trial, ended: Ended) -> None:
        self._folder.write_log(trial.name, ended.log)
        self._folder.end(trial.name, state_of(ended.exit_code), ended.seconds, error=ended.error)
        self._folder.publish()
        record = self._folder.records[trial.name]
        self._table.end(trial.name, record.state, seconds=ended.seconds, best=self._best(trial.name), error=ended.error)

    def _best(self, name: str) -> str:
        figure = self._folder.standing(name).figure
        return f"{figure.value:.4f}" if figure else ""

    def _stop(self) -> None:
        """Let running trials save what they have; those that wait never start."""
        self._waiting.clear()
        self._board.stop.remote()
        for reference, trial in list(self._submitted.items()):
            if trial.name not in self._begun:
                ray.cancel(reference)
                del self._submitted[reference]
        deadline = time.monotonic() + self._options.grace_seconds
        while self._submitted and time.monotonic() < deadline:
            self._collect()
            self._table.draw()


def run_trial(work: Work, board: Any) -> Ended:
    """What a worker runs: the job, in its main thread, with what it prints kept."""
    if Path(work.directory).is_dir():
        os.chdir(work.directory)
    printed, errors, began = io.StringIO(), list[str](), time.monotonic()
    noted = [-NOTE_SECONDS]

    def note(text: str, share: float) -> None:
        if time.monotonic() - noted[0] >= NOTE_SECONDS:
            noted[0] = time.monotonic()
            board.note.remote(work.name, share, text)

    def run() -> None:
        module = importlib.import_module(f"jobs.{work.job}")
        getattr(module, work.function)(from_dict(object, work.settings))

    note("", 0.0)
    with (
        _stopped_by(board),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        progress_to(note),
    ):
        code = guarded(run, errors.append)
    return Ended(code, time.monotonic() - began, "".join(errors), printed.getvalue()[-MAX_LOG:])


def placed(trial: Trial, options: RayLauncherConfig) -> dict[str, Any]:
    """The settings of a trial, in one process with the resources it has; ConfigError if it wants workers of its own."""
    if trial.settings is None:
        raise ConfigError(trial.problem.removeprefix("ConfigError: "))
    settings = dict(trial.settings)
    if settings.get("workers", 1) != 1:
        raise ConfigError("workers: a trial of hydra/launcher=ray works in one process; leave workers out")
    if settings.get("threads", 1) is None:
        settings["threads"] = max(1, int(options.num_cpus))
    if settings.get("device") == "auto" and not options.num_gpus:
        settings["device"] = "cpu"
    cluster = settings.get("cluster")
    if isinstance(cluster, Mapping):
        if cluster["workers"] or cluster["gpu_workers"]:
            raise ConfigError("cluster: a trial of hydra/launcher=ray works in one process; leave its workers out")
        settings["cluster"] = {**cluster, "workers": 0}
    return settings


@contextlib.contextmanager
def _stopped_by(board: Any) -> Iterator[None]:
    """Within, this process gets SIGTERM once the board says so; jobs know what to do then."""
    before = signal.signal(signal.SIGTERM, on_sigterm)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(STOP_SECONDS):
            try:
                if ray.get(board.stopping.remote(), timeout=STOP_SECONDS):
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
            except GetTimeoutError:
                continue
            except RayError:
                return  # the driver is gone, and this process will be

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
