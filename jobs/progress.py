"""Progress of long work: one live line on a terminal, one plain line every 30 seconds in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LOG_EVERY_SECONDS = 30.0
_elsewhere: ContextVar[Callable[[str, float], None] | None] = ContextVar(
    "progress that is shown elsewhere", default=None
)


class ProgressLine:
    """Counts what is done against what there is; `total` and `done` are in any unit of work that grows evenly."""

    def __init__(
        self, title: str, total: float, show: Callable[[str, float], None], say: Callable[[str], None]
    ) -> None:
        self._title, self._total, self._show = title, max(total, 1e-9), show
        self.say = say
        """Tell something beside the progress, once."""
        self._skipped = 0.0
        self._began = time.perf_counter()

    def skip(self, amount: float) -> None:
        """Work that an earlier run has done: it counts as done, not for the speed."""
        self._skipped += amount
        self._show(f"{self._title}: resumed", min(1.0, self._skipped / self._total))

    def start(self) -> None:
        """Work begins now: what came before does not count for the speed."""
        self._began = time.perf_counter()

    def update(self, done: float, text: str) -> None:
        """`done` units in this run so far; `text` says it in the user's units."""
        left = self.seconds_left(done)
        eta = f", ETA {duration(left)}" if left is not None else ""
        self._show(f"{self._title}: {text}{eta}", min(1.0, (self._skipped + done) / self._total))

    def seconds_left(self, done: float) -> float | None:
        """Until all is done at the speed so far; None if that is not known yet."""
        if done <= 0:
            return None
        return (self._total - self._skipped - done) * (time.perf_counter() - self._began) / done


@contextmanager
def progress_line(title: str, total: float) -> Iterator[ProgressLine]:
    """A ProgressLine on stderr for the time of the block."""
    show = _elsewhere.get()
    if show is not None:
        yield ProgressLine(title, total, show, lambda text: print(text, file=sys.stderr, flush=True))
        return
    if sys.stderr.isatty():
        columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=1.0)
            yield ProgressLine(
                title,
                total,
                lambda text, share: bar.update(task, completed=share, description=text),
                lambda text: bar.console.print(text, markup=False, highlight=False),
            )
        return
    last = [time.perf_counter()]

    def plain(text: str, share: float) -> None:
        now = time.perf_counter()
        if now - last[0] >= LOG_EVERY_SECONDS:
            last[0] = now
            print(f"{share:4.0%} {text}", file=sys.stderr, flush=True)

    yield ProgressLine(title, total, plain, lambda text: print(text, file=sys.stderr, flush=True))


@contextmanager
def progress_to(show: Callable[[str, float], None]) -> Iterator[None]:
    """Within, every ProgressLine tells `show` its text and the share that is done, instead of stderr."""
    token = _elsewhere.set(show)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
