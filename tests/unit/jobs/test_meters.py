"""What meters add up, without Ray: time of an idle GPU, and the counts of a processor."""

import importlib.util
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.distributed import meters
from jobs.distributed.meters import METERS, MeteredProcessor, Meters
from rnnlm.bulk.work import Processed, Processor


class Recorder(Meters):
    def __init__(self):
        super().__init__("score", "out")
        self.added = []

    def add(self, name, amount, **labels):
        assert METERS[name].kind == "counter"
        self.added.append((name, amount))


class Padded(Processor):
    hardware = "abacus"

    def process(self, table, rows):
        self.report(0.5)
        if table.num_rows == 3:
            raise ValueError("three")
        return Processed({}, num_tokens=7, num_padding=2)


def test_a_processor_is_counted_and_otherwise_the_same():
    recorder, said = Recorder(), []
    processor = MeteredProcessor(Padded(), recorder)
    processor.report = said.append
    assert processor.hardware == "abacus"
    found = processor.process(pa.table({"text": ["a", "b"]}), np.arange(2))
    assert (found.num_tokens, said) == (7, [0.5])
    counted = dict(recorder.added)
    assert counted.pop("rnnlm_busy_seconds_total") > 0
    assert counted == {"rnnlm_rows_total": 2, "rnnlm_tokens_total": 7, "rnnlm_padding_positions_total": 2}
    with pytest.raises(ValueError, match="three"):
        processor.process(pa.table({"text": ["a"] * 3}), np.arange(3))
    assert [name for name, _ in recorder.added[4:]] == ["rnnlm_busy_seconds_total"]


def test_the_idle_share_of_a_gpu_becomes_seconds(monkeypatch):
    monkeypatch.setattr(meters, "GPU_SECONDS", 0.01)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    looks, blocked = iter([25, 25, 100]), threading.Event()
    began = time.monotonic()

    def utilization():
        share = next(looks, None)
        if share is None:
            blocked.set()
            threading.Event().wait()  # the thread is a daemon
        return share

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    recorder = Recorder()
    recorder.watch_gpu()
    assert blocked.wait(10.0)
    assert [name for name, _ in recorder.added] == ["rnnlm_gpu_idle_seconds_total"] * 3
    assert 0.015 <= sum(amount for _, amount in recorder.added) <= 0.75 * (time.monotonic() - began)
    assert recorder.added[2][1] == 0.0


def test_without_the_package_no_gpu_is_looked_at(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "utilization", lambda: pytest.fail("looked"))
    recorder = Recorder()
    recorder.watch_gpu()
    assert recorder.added == []
