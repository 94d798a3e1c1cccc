"""SIGTERM while something goes on that should be saved first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_noted() -> Iterator[threading.Event]:
    """Within, the first SIGTERM sets the event; a second one does what SIGTERM did before. In the main thread only."""
    told = threading.Event()

    def note(signum: int, frame: FrameType | None) -> None:
        if told.is_set() and callable(before):
            before(signum, frame)
        told.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
