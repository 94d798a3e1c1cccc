"""The trials of a sweep while they run: a live table on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jobs.progress import LOG_EVERY_SECONDS, duration

MAX_ROWS = 30  # of the table; the running ones and those that ended last stay


@dataclass
class Shown:
    """What is known of a trial: `share` of it is done, `text` says it in the job's units."""

    state: str = "waiting"
    best: str = ""
    share: float = 0.0
    text: str = ""
    began: float = 0.0
    seconds: float | None = None


@dataclass
class TrialTable:
    """Trials by name; `draw` shows them."""

    live: Live | None
    rows: dict[str, Shown] = field(default_factory=dict)
    _told: float = field(default_factory=time.monotonic)

    def begin(self, name: str) -> None:
        self.rows[name].state, self.rows[name].began = "running", time.monotonic()
        self._say(f"{name}: started")

    def end(self, name: str, state: str, *, seconds: float, best: str, error: str) -> None:
        row = self.rows[name]
        row.state, row.seconds, row.best, row.text, row.share = state, seconds, best, error, 1.0
        self._say(f"{name}: {state} after {duration(seconds)}{best and f', best {best}'}{error and f': {error}'}")

    def draw(self) -> None:
        """Show the table, or now and then a line about all."""
        if self.live is not None:
            self.live.update(self._table())
        elif time.monotonic() - self._told >= LOG_EVERY_SECONDS:
            self._told = time.monotonic()
            for name, row in self.rows.items():
                if row.state == "running":
                    self._say(f"{name}: {row.share:.0%} {row.text}{row.best and f', best {row.best}'}")
            self._say(self.counted())

    def counted(self) -> str:
        """How many trials are in which state."""
        states = [row.state for row in self.rows.values()]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))

    def _say(self, text: str) -> None:
        if self.live is None:
            print(text, file=sys.stderr, flush=True)

    def _table(self) -> Table:
        table = Table(title=self.counted())
        for name in ("trial", "state", "best", "done", "time"):
            table.add_column(name, overflow="fold" if name == "trial" else "ellipsis")
        order = {"running": 0, "waiting": 2}
        shown = sorted(self.rows.items(), key=lambda item: (order.get(item[1].state, 1), -item[1].began))
        for name, row in shown[:MAX_ROWS]:
            seconds = row.seconds if row.seconds is not None else time.monotonic() - row.began if row.began else None
            clock = "" if seconds is None else duration(seconds)
            table.add_row(name, row.state, row.best, f"{row.share:.0%} {row.text}" if row.began else row.text, clock)
        if len(shown) > MAX_ROWS:
            table.caption = f"and {len(shown) - MAX_ROWS} more"
        return table


@contextmanager
def trial_table() -> Iterator[TrialTable]:
    """A table on stderr for the time of the block."""
    if not sys.stderr.isatty():
        yield TrialTable(None)
        return
    with Live(console=Console(stderr=True), refresh_per_second=2) as live:
        yield TrialTable(live)
