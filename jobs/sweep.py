"""The records of a sweep: what its trials were and how they went. They lie in `<output>/_sweep`, one file a trial.

    base.json             the configuration without what is swept; another one is refused
    trials/<trial>.json   a Record
    logs/<trial>.txt      what the trial printed, where it ran on Ray

Beside it the leaderboard, written again as trials end.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from jobs.trial import Trial
from jobs.trial_figure import trial_figure
from rnnlm.config import differences
from rnnlm.errors import EnvironmentFailure, RefusedError, TerminatedError
from rnnlm.evaluation.leaderboard import Standing, write_leaderboard, write_leaderboard_page
from rnnlm.evaluation.plots import check_installed
from rnnlm.storage import open_location

SWEEP = "_sweep"
MAY_CHANGE = {"address", "cluster", "device", "experiment", "output", "threads", "tracker", "workers"}
"Fields that decide where and how the work is done, not what comes out."
PAGE_SHARE = 0.05  # of the time of a sweep may go into drawing its page

State = Literal["running", "finished", "stopped early", "interrupted", "failed"]
ENDED_WELL: set[State] = {"finished", "stopped early"}


@dataclass(frozen=True)
class Record:
    """How a trial went."""

    name: str
    parameters: Mapping[str, str]
    settings: Mapping[str, Any]
    state: State
    seconds: float | None = None  # of the last attempt
    error: str = ""
    attempts: int = 1


@dataclass
class SweepFolder:
    """The records in the folder of a sweep, kept in memory; one process writes them."""

    output: str
    title: str
    records: dict[str, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._folder = open_location(self.output)
        self._trials = self._folder.join(SWEEP, "trials")
        for name in self._trials.list_names():
            record = Record(**self._trials.join(name).read_json())
            self.records[record.name] = record
        self._standings: dict[str, Standing] = {}  # of trials that have ended
        self._page_from = 0.0  # no page is drawn before
        self._pages = _pages_can_be_drawn()

    def admit(self, base: Mapping[str, Any], trials: Sequence[Trial]) -> None:
        """Raise RefusedError if the folder holds a sweep over another base, or a trial with other settings."""
        file = self._folder.join(SWEEP, "base.json")
        changed = differences(file.read_json(), _fixed(base)) if file.exists() else []
        for trial in trials:
            before = self.records.get(trial.name)
            if before and before.settings and trial.settings:
                found = differences(_fixed(before.settings), _fixed(trial.settings))
                changed += [f"{trial.name}: {one}" for one in found]
        if changed:
            raise RefusedError(self._folder.uri, changed)
        file.write_json(_fixed(base))

    def begin(self, trial: Trial) -> None:
        """A trial runs now."""
        before = self.records.get(trial.name)
        attempts = before.attempts + 1 if before else 1
        self.write(Record(trial.name, trial.parameters, trial.settings or {}, "running", attempts=attempts))

    def end(
        self, name: str, state: State, seconds: float, *, error: str = "", parameters: Mapping[str, str] | None = None
    ) -> None:
        """A trial has come to its end; `parameters` where they have changed on the way."""
        record = self.records[name]
        changed = record.parameters if parameters is None else parameters
        self.write(replace(record, state=state, seconds=round(seconds, 3), error=error, parameters=changed))

    def interrupt(self) -> None:
        """What ran until now is cut off."""
        for name, record in list(self.records.items()):
            if record.state == "running":
                self.end(name, "interrupted", record.seconds or 0.0)

    def write(self, record: Record) -> None:
        """Keep a record."""
        self.records[record.name] = record
        self._standings.pop(record.name, None)
        self._trials.join(f"{record.name}.json").write_json(asdict(record))

    def write_log(self, name: str, text: str) -> None:
        """Keep what a trial printed."""
        if text:
            self._folder.join(SWEEP, "logs", f"{name}.txt").write_text(text)

    def publish(self, *, last: bool = False) -> None:
        """Write the leaderboard; its page, which takes a second, only now and then, and at the `last` time."""
        standings = [self.standing(name) for name in self.records]
        write_leaderboard(standings, self._folder)
        if self._pages and (last or time.monotonic() >= self._page_from):
            began = time.monotonic()
            write_leaderboard_page(standings, self.title, self._folder)
            ended = time.monotonic()
            self._page_from = ended + (ended - began) / PAGE_SHARE

    def standing(self, name: str) -> Standing:
        """A trial as the leaderboard shows it, as far as it has come."""
        if name in self._standings:
            return self._standings[name]
        record = self.records[name]
        figure, metrics = trial_figure(self._folder.join(name))
        standing = Standing(name, record.state, record.parameters, record.seconds, record.error, figure, metrics)
        if record.state != "running":
            self._standings[name] = standing
        return standing


def state_of(exit_code: int) -> State:
    """What the exit code of a job (docs/operations.md) says of a trial."""
    if exit_code == 0:
        return "finished"
    return "interrupted" if exit_code in {130, TerminatedError.exit_code} else "failed"


def _fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in MAY_CHANGE}


def _pages_can_be_drawn() -> bool:
    try:
        check_installed()
    except EnvironmentFailure as error:
        print(f"the sweep has leaderboard.md and .parquet, but no leaderboard.html: {error}")
        return False
    return True
