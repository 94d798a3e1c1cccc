"""A tracker that talks to a service: each row once and in order, whatever the service does, and nobody waits for it."""

import json
import logging
import threading
import time

import pytest

from rnnlm.errors import ConfigError, EnvironmentFailure
from rnnlm.storage import open_location
from rnnlm.training.metrics import METRICS
from rnnlm.training.trackers import background
from rnnlm.training.trackers.background import BackgroundTracker, Service
from rnnlm.training.trackers.mlflow import MlflowConfig
from rnnlm.training.trackers.wandb import WandbConfig


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(background, "SEND_SECONDS", 0.01)
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.01)


class Recorder(Service):
    """Fails at the calls that are named, as often as is said."""

    name = "recorder"

    def __init__(self, failures=(), has=None):
        self.failures = list(failures)
        self.has = has or {}
        self.rows, self.finished = [], 0

    def fail(self, call):
        if call in self.failures:
            self.failures.remove(call)
            raise ConnectionError(f"{call}: https://user:hidden@service is gone")

    def connect(self):
        self.fail("connect")
        return self.has

    def send(self, rows):
        self.fail("send")
        self.rows += rows

    def finish(self):
        self.fail("finish")
        self.finished += 1


def row(step, kind="train"):
    return {"kind": kind, "step": step}


ROWS = [row(1), row(2), row(2, "valid"), row(3), row(4), row(4, "valid")]


def track(service, folder, rows=ROWS, pause=0.0):
    tracker = BackgroundTracker(service, open_location(str(folder)))
    for one in rows:
        tracker.log(one)
        time.sleep(pause)
    tracker.close()


@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_rows_arrive_once_in_order_and_the_run_is_finished(tmp_path, caplog, pause):
    service = Recorder()
    track(service, tmp_path, pause=pause)
    assert service.rows == ROWS
    assert service.finished == 1
    assert caplog.records == []


def test_a_service_that_fails_for_a_while_is_warned_of_once_and_misses_nothing(tmp_path, caplog):
    service = Recorder(["connect", "connect", "send", "send"])
    track(service, tmp_path, pause=0.05)
    assert service.rows == ROWS
    assert service.finished == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert "recorder fails, the training goes on and tries again: ConnectionError: connect:" in caplog.text
    assert "hidden" not in caplog.text
    assert "lacks" not in caplog.text


@pytest.mark.parametrize(("call", "missing"), [("connect", 6), ("send", 6), ("finish", 0)])
def test_a_service_that_stays_away_is_named_at_the_end(tmp_path, caplog, call, missing):
    track(Recorder([call] * 1000), tmp_path)
    assert f"recorder lacks the last {missing} rows, which are in metrics.jsonl: ConnectionError: {call}" in caplog.text


def test_a_service_that_never_answers_is_not_waited_for(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(background, "CLOSE_SECONDS", 0.1)
    released = threading.Event()

    class Silent(Recorder):
        def connect(self):
            released.wait(60.0)
            return {}

    began = time.monotonic()
    track(Silent(), tmp_path)
    assert time.monotonic() - began < 5.0
    assert "recorder lacks the last 6 rows, which are in metrics.jsonl: it did not answer within 0.1 s" in caplog.text
    released.set()


def test_a_run_that_goes_on_sends_what_the_service_missed_and_nothing_twice(tmp_path):
    (tmp_path / METRICS).write_text("".join(json.dumps(one) + "\n" for one in ROWS))
    service = Recorder(has={"train": 2})
    track(service, tmp_path, rows=[row(4), row(4, "valid"), row(5), row(6), row(6, "valid")])
    assert service.rows == [row(2, "valid"), row(3), row(4), row(4, "valid"), row(5), row(6), row(6, "valid")]


def test_a_tracker_that_cannot_be_says_what_to_do(tmp_path, monkeypatch):
    folder = open_location(str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=r"tracker.tracking_uri: mlflow needs the address of a server"):
        MlflowConfig().open(folder)
    with pytest.raises(ConfigError, match=r"wandb needs a local output folder; set tracker=none"):
        WandbConfig().open(open_location("mock:///run"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for config, package in [(MlflowConfig(tracking_uri="http://nowhere"), "mlflow-skinny"), (WandbConfig(), "wandb")]:
        with pytest.raises(EnvironmentFailure, match=f"pip install {package}"):
            config.open(folder)
