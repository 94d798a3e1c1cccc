"""Notices that reach a training from outside, and what keeps it from starting again for ever.

- The driver is to stop (SIGTERM): the workers save and end, and so does the command.
- A node is about to be taken away (Ray drains it), or a worker is to go (SIGTERM to its process): the workers save at
  once, and Ray Train starts them again where there is room.

The loop asks after every step, so asking must cost nothing: a thread listens, the loop reads a flag.
"""

import signal
import threading
import time
from types import FrameType
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayError

from rnnlm.errors import EnvironmentFailure, RnnlmError

MAX_STARTS = 4  # from the same checkpoint
LISTEN_SECONDS = 1.0  # between two looks; Ray itself looks for nodes that go every RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S

_told_to_go = threading.Event()  # this process got SIGTERM


class Notices:
    """An actor beside the driver: whether to stop, and whether there is a point in starting the workers again."""

    def __init__(self) -> None:
        self._stopping = False
        self._place: str | None = None
        self._starts = 0
        self._last = "a worker died"
        self._verdict: RnnlmError | None = None

    def stop(self) -> None:
        """The driver was told to end."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether it was."""
        return self._stopping

    def start(self, place: str) -> bool:
        """The workers begin at a checkpoint; whether they had begun before."""
        again = self._place is not None
        self._starts = self._starts + 1 if place == self._place else 1
        self._place = place
        if self._starts > MAX_STARTS and self._verdict is None:
            self._verdict = EnvironmentFailure(
                f"the workers started {MAX_STARTS} times from {place} and never reached the next checkpoint; the last "
                f"time: {self._last}",
                todo="see the logs of the cluster (`ray logs`); is there memory enough? See also loop.save_every_steps",
            )
        return again

    def failed(self, error: RnnlmError | str) -> None:
        """What ended the workers. An error of the user's would come again: it is the verdict."""
        if isinstance(error, RnnlmError):
            self._verdict = error
        else:
            self._last = error

    def verdict(self) -> RnnlmError | None:
        """Why the workers are not to start again; None if they may."""
        return self._verdict


class Listener:
    """A worker's ear: `heard` is read by the loop, the rest goes on in a thread."""

    def __init__(self, notices: Any) -> None:
        self._notices = notices
        self._heard = threading.Event()
        threading.Thread(target=self._listen, name="notices", daemon=True).start()

    def heard(self) -> bool:
        """Whether this worker should save now."""
        return self._heard.is_set() or _told_to_go.is_set()

    def _listen(self) -> None:
        try:
            # Ray's question is one to all workers: each waits for the others to ask, and all hear of a node that goes.
            while not ray.get(self._notices.stopping.remote()) and ray.train.get_preemption_info() is None:
                time.sleep(LISTEN_SECONDS)
        except RayError:
            return  # the driver or another worker is gone: Ray ends this one too
        self._heard.set()


class ListeningTorchConfig(ray.train.torch.TorchConfig):  # type: ignore[misc]
    """Ray Train's process group, on workers that note a SIGTERM instead of dying of it."""

    @property
    def backend_cls(self) -> Any:
        class Backend(super().backend_cls):  # type: ignore[misc]
            def on_start(self, worker_group: Any, backend_config: Any) -> None:
                worker_group.execute(_note_sigterm)
                super().on_start(worker_group, backend_config)

        return Backend


def _note_sigterm() -> None:
    """In a worker's main thread; Ray Train trains in another one, which could not do this."""

    def note(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is the system's
        _told_to_go.set()

    signal.signal(signal.SIGTERM, note)
