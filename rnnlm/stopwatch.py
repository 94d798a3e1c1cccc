"""Where the time goes: seconds spent in the named parts of a computation.

    watch = Stopwatch()
    with watch.running("other"):
        with lap("forward"):
            with lap("softmax"):      # deep inside, where nobody passes a stopwatch along
                ...

A lap within a lap stops the outer one, so that the parts add up to the whole. Where no stopwatch runs, a lap costs
nothing. Times are those of this process: on a GPU, whose kernels run behind, a part shows what it waits for.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Stopwatch:
    """`seconds` of each part since the last `reset`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._parts: list[str] = []
        self._since = 0.0

    @contextmanager
    def running(self, rest: str) -> Iterator[None]:
        """Within, laps are taken; what is in none of them counts as `rest`."""
        token = _running.set(self)
        try:
            with self.part(rest):
                yield
        finally:
            _running.reset(token)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within, time counts as `name`."""
        self._switch()
        self._parts.append(name)
        try:
            yield
        finally:
            self._switch()
            self._parts.pop()

    def reset(self) -> None:
        """Begin anew."""
        self.seconds = {}

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._parts:
            name = self._parts[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


_running: ContextVar[Stopwatch | None] = ContextVar("running", default=None)


@contextmanager
def lap(name: str) -> Iterator[None]:
    """Within, the running stopwatch counts the time as `name`."""
    watch = _running.get()
    if watch is None:
        yield
    else:
        with watch.part(name):
            yield
