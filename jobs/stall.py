"""A watch over work in this very process: if nothing moves for too long, say where it hangs and exit with code 5."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rnnlm.errors import StalledError

EXIT_NOW: Callable[[int], None] = os._exit  # a thread that hangs cannot be raised into


@contextmanager
def stall_watch(seconds: float) -> Iterator[Callable[[], None]]:
    """Call what this gives whenever something moved. Ends the process if it is not called for `seconds`.

    It cannot end a process whose native code holds Python's lock; workers on Ray are watched from outside.
    """
    moved = [time.monotonic()]
    done = threading.Event()

    def touch() -> None:
        moved[0] = time.monotonic()

    def watch() -> None:
        while not done.wait(min(1.0, seconds / 4)):
            idle = time.monotonic() - moved[0]
            if idle > seconds:
                faulthandler.dump_traceback(all_threads=True)
                print(
                    f"StalledError: nothing moved for {idle:.0f} s, the stacks are above; what is finished is saved; "
                    f"run the same command again to go on, or raise cluster.stall_seconds",
                    file=sys.stderr,
                    flush=True,
                )
                EXIT_NOW(StalledError.exit_code)

    thread = threading.Thread(target=watch, name="stall-watch", daemon=True)
    thread.start()
    try:
        yield touch
    finally:
        done.set()
        thread.join()
