"""Measurements of a run: `metrics.jsonl` always, a tracker such as TensorBoard if wanted.

A row is {"kind": "train" | "valid", "step", "tokens", "wall_seconds", "nll", ...}; nll is nats a target, a mean over
the steps since the last row. After a resume the file holds each step once: rows past the checkpoint are dropped.
"""

import json
from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

from rnnlm.config import config
from rnnlm.errors import ConfigError
from rnnlm.storage import Location

METRICS = "metrics.jsonl"
Row = dict[str, Any]


@runtime_checkable
class Tracker(Protocol):
    """Where measurements go beside `metrics.jsonl`."""

    def log(self, row: Row) -> None:
        """One row, as it is written to metrics.jsonl."""

    def close(self) -> None:
        """Write what is still held."""


@config
class TrackerConfig:
    """Base of the configs in conf/tracker."""

    @abstractmethod
    def open(self, folder: Location) -> Tracker:
        """A tracker that belongs to the run in `folder`."""


@config
class NoTrackerConfig(TrackerConfig):
    """Nothing beside metrics.jsonl."""

    def open(self, folder: Location) -> Tracker:  # noqa: ARG002 - writes nowhere
        return _NoTracker()


@config
class TensorBoardConfig(TrackerConfig):
    """Event files in <output>/tensorboard; look at them with `tensorboard --logdir <output>`."""

    def open(self, folder: Location) -> Tracker:
        if not folder.is_local:
            raise ConfigError("tracker: tensorboard needs a local output folder; set tracker=none")
        return _TensorBoard(folder.join("tensorboard").path)


class _NoTracker:
    def log(self, row: Row) -> None:
        pass

    def close(self) -> None:
        pass


class _TensorBoard:
    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes a second; only when wanted

        self._writer: Any = SummaryWriter(folder)

    def log(self, row: Row) -> None:
        for name, value in row.items():
            if name not in {"kind", "step"}:
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        self._writer.close()


class MetricsLog:
    """The rows of a run so far, kept on disk; written whole, since object stores cannot append."""

    def __init__(self, folder: Location, tracker: Tracker, step: int = 0) -> None:
        """Keeps the rows that are there up to and with `step`."""
        self._file = folder.join(METRICS)
        self._tracker = tracker
        self.rows: list[Row] = []
        if step and self._file.exists():
            self.rows = [row for row in read_metrics(self._file) if row["step"] <= step]

    def log(self, row: Row) -> None:
        self.rows.append(row)
        self._tracker.log(row)

    def flush(self) -> None:
        """Write to disk; called with every checkpoint and validation."""
        self._file.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def close(self) -> None:
        self.flush()
        self._tracker.close()


def read_metrics(file: Location) -> list[Row]:
    """All rows of a metrics.jsonl."""
    return [json.loads(line) for line in file.read_bytes().decode().split("\n") if line]
