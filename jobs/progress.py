"""Progress of long work: one live line on a terminal, one plain line every 30 seconds in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LOG_EVERY_SECONDS = 30.0


class ProgressLine:
    """Counts what is done against what there is; `total` and `advance` are in any unit of work that grows evenly."""

    def __init__(self, title: str, total: float, show: Callable[[str, float], None]) -> None:
        self._title, self._total, self._show = title, max(total, 1e-9), show
        self._began = time.perf_counter()
        self._last_line = self._began
        self._done = self._skipped = 0.0

    def skip(self, amount: float) -> None:
        """Work that an earlier run has done: it counts as done, not for the speed."""
        self._skipped += amount
        self.update(self._done, "resumed")

    def update(self, done: float, text: str) -> None:
        """`done` units in this run so far; `text` says it in the user's units."""
        self._done = done
        elapsed = time.perf_counter() - self._began
        left = (self._total - self._skipped - done) * elapsed / done if done > 0 else None
        eta = f", ETA {_clock(left)}" if left is not None else ""
        self._show(f"{self._title}: {text}{eta}", min(1.0, (self._skipped + done) / self._total))


@contextmanager
def progress_line(title: str, total: float) -> Iterator[ProgressLine]:
    """A ProgressLine on stderr for the time of the block."""
    if sys.stderr.isatty():
        columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=1.0)
            yield ProgressLine(title, total, lambda text, share: bar.update(task, completed=share, description=text))
        return
    last = [time.perf_counter()]

    def plain(text: str, share: float) -> None:
        now = time.perf_counter()
        if now - last[0] >= LOG_EVERY_SECONDS:
            last[0] = now
            print(f"{share:4.0%} {text}", file=sys.stderr, flush=True)

    yield ProgressLine(title, total, plain)


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
