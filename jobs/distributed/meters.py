"""What a job on Ray tells Prometheus, through the endpoint of each node; there the names begin with `ray_rnnlm_`.

Counters are summed over the workers of a run; of a shard that is tried again, rows and tokens count again, since the
work was done again. Shares are quotients of rates of counters, so they hold for any span of time. Figures are on the
endpoint within Ray's `metrics_report_interval_ms`, ten seconds.
"""

import importlib.util
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.util.metrics import Counter, Gauge

from rnnlm.bulk.output import DoneRecord
from rnnlm.bulk.shard import Outcome
from rnnlm.bulk.work import Processed, Processor
from rnnlm.errors import without_secrets
from rnnlm.training.metrics import Row

GPU_SECONDS = 1.0  # between two looks at the GPU


@dataclass(frozen=True)
class Meter:
    """One metric as Prometheus knows it."""

    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()  # beside job and run


METERS = {
    "rnnlm_rows_total": Meter("counter", "Rows that were processed."),
    "rnnlm_tokens_total": Meter("counter", "Tokens that were processed."),
    "rnnlm_padding_positions_total": Meter("counter", "Positions that were computed and belong to no token."),
    "rnnlm_row_errors_total": Meter("counter", "Rows of finished shards with an error, by its code.", ("code",)),
    "rnnlm_busy_seconds_total": Meter("counter", "Seconds in which a worker computed rows."),
    "rnnlm_gpu_idle_seconds_total": Meter("counter", "Seconds in which the GPU of a worker ran no kernel."),
    "rnnlm_shards_done_total": Meter("counter", "Shards that were finished."),
    "rnnlm_shards_failed_total": Meter("counter", "Shards that could not be done."),
    "rnnlm_worker_deaths_total": Meter("counter", "Workers that died or were ended because they hung."),
    "rnnlm_shards_left": Meter("gauge", "Shards of the run that are not finished."),
    "rnnlm_train_loss_nats": Meter("gauge", "Mean loss of a target since the last row of metrics.jsonl."),
    "rnnlm_valid_loss_nats": Meter("gauge", "Mean loss of a target of the held-out data."),
    "rnnlm_train_tokens_per_second": Meter("gauge", "Targets learned from in a second, by all workers."),
    "rnnlm_train_steps": Meter("gauge", "Optimizer steps so far."),
    "rnnlm_train_tokens": Meter("gauge", "Targets learned from so far."),
}


class Meters:
    """The meters of one run in this process. Labels: `job`, and `run`, the output folder without credentials."""

    def __init__(self, job: str, output: str) -> None:
        self._labels = {"job": job, "run": without_secrets(output).partition("?")[0]}
        self._made: dict[str, Counter | Gauge] = {}

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Raise a counter."""
        if amount > 0:
            self._meter(name).inc(amount, {**self._labels, **labels})

    def set(self, name: str, value: float) -> None:
        """Move a gauge."""
        self._meter(name).set(value, self._labels)

    def row(self, row: Row) -> None:
        """A row of metrics.jsonl."""
        self.set(f"rnnlm_{row['kind']}_loss_nats", row["nll"])
        if row["kind"] == "train":
            self.set("rnnlm_train_tokens_per_second", row["tokens_per_second"])
            self.set("rnnlm_train_steps", row["step"])
            self.set("rnnlm_train_tokens", row["tokens"])

    def shards(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        """The same outcomes, counted."""
        for outcome in outcomes:
            self.add(f"rnnlm_shards_{'done' if isinstance(outcome, DoneRecord) else 'failed'}_total", 1)
            yield outcome

    def errors(self, outcome: Outcome) -> None:
        """Rows with an error of a shard that is done."""
        if isinstance(outcome, DoneRecord):
            for code, count in outcome.errors.items():
                self.add("rnnlm_row_errors_total", count, code=code)

    def watch_gpu(self) -> None:
        """Measure until the process ends how long its GPU is idle. Needs nvidia-ml-py, else nothing is measured."""
        if importlib.util.find_spec("pynvml") is not None:
            threading.Thread(target=self._watch_gpu, name="gpu-meter", daemon=True).start()

    def _watch_gpu(self) -> None:
        import torch  # noqa: PLC0415 - takes seconds; a worker with a GPU has it already

        before = time.monotonic()
        while True:
            time.sleep(GPU_SECONDS)
            now = time.monotonic()
            busy = torch.cuda.utilization() / 100  # share of the last moments in which a kernel ran
            self.add("rnnlm_gpu_idle_seconds_total", (now - before) * (1 - busy))
            before = now

    def _meter(self, name: str) -> Counter | Gauge:
        if name not in self._made:
            meter = METERS[name]
            make = Counter if meter.kind == "counter" else Gauge
            self._made[name] = make(name, meter.help, (*self._labels, *meter.labels))
        return self._made[name]


class MeteredProcessor(Processor):
    """A processor whose rows, tokens, padding and time are counted."""

    def __init__(self, processor: Processor, meters: Meters) -> None:
        self._processor, self._meters = processor, meters
        self.hardware = processor.hardware

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:
        self._processor.report = self.report
        began = time.perf_counter()
        try:
            found = self._processor.process(table, rows)
        finally:
            self._meters.add("rnnlm_busy_seconds_total", time.perf_counter() - began)
        self._meters.add("rnnlm_rows_total", len(rows))
        self._meters.add("rnnlm_tokens_total", found.num_tokens)
        self._meters.add("rnnlm_padding_positions_total", found.num_padding)
        return found

    def release_memory(self) -> None:
        self._processor.release_memory()
