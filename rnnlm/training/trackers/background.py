"""A tracker in a thread of its own: what a service refuses is kept and tried again, and the training never waits.

The first failure is warned of, once. At the end the rows that are left get one more chance, for a limited time; what
then is missing is said. It is in metrics.jsonl, from which a run that goes on sends it.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

from rnnlm.errors import without_secrets
from rnnlm.retries import first_line
from rnnlm.storage import Location
from rnnlm.training.metrics import METRICS, Row, read_metrics

RETRY_SECONDS = 30.0  # between two attempts while the service fails
SEND_SECONDS = 2.0  # rows wait so long for others to go with them
CLOSE_SECONDS = 60.0  # for the rest, at the end of the run

log = logging.getLogger(__name__)


class Service(ABC):
    """One run at a tracking service; every method may raise anything, and is then called again later."""

    name: str

    @abstractmethod
    def connect(self) -> dict[str, int]:
        """Find or make the run there; the last step it has, by kind of row."""

    @abstractmethod
    def send(self, rows: Sequence[Row]) -> None:
        """Add rows, at least one."""

    @abstractmethod
    def finish(self) -> None:
        """The run has ended, finished or not."""


class BackgroundTracker:
    """A Tracker that hands rows to a service, each step of each kind once."""

    def __init__(self, service: Service, folder: Location) -> None:
        self._service = service
        self._earlier = read_metrics(folder.join(METRICS)) if folder.join(METRICS).exists() else []
        self._last: dict[str, int] | None = None  # step of each kind that the service has; None: not connected
        self._rows: list[Row] = []  # to be sent
        self._lock = threading.Lock()
        self._failure: str | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker-{service.name}", daemon=True)
        self._thread.start()

    def log(self, row: Row) -> None:
        with self._lock:
            self._rows.append(row)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)
        with self._lock:
            missing = len(self._rows) if self._last is not None else len(self._earlier) + len(self._rows)
        if self._thread.is_alive() or self._failure is not None:
            why = self._failure or f"it did not answer within {CLOSE_SECONDS:g} s"
            log.warning("%s lacks the last %d rows, which are in %s: %s", self._service.name, missing, METRICS, why)

    def _work(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(SEND_SECONDS if self._failure is None else RETRY_SECONDS)
            try:
                self._send()
                if closing:
                    self._service.finish()
            except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
                self._failed(error)
            else:
                self._failure = None

    def _send(self) -> None:
        if self._last is None:
            self._last = self._service.connect()
            with self._lock:
                self._rows = [*self._earlier, *self._rows]
        with self._lock:
            rows = list(self._rows)
        last, new = dict(self._last), []
        for row in rows:
            if row["step"] > last.get(row["kind"], 0):
                new.append(row)
                last[row["kind"]] = row["step"]
        if new:
            self._service.send(new)
            self._last = last
        with self._lock:
            del self._rows[: len(rows)]

    def _failed(self, error: Exception) -> None:
        first = self._failure is None
        self._failure = without_secrets(f"{type(error).__name__}: {first_line(error)}")
        if first:
            log.warning("%s fails, the training goes on and tries again: %s", self._service.name, self._failure)
