"""Measurements: metrics.jsonl is written whole and read back, trackers see every row."""

import pytest

from rnnlm.errors import ConfigError
from rnnlm.storage import open_location
from rnnlm.training.metrics import METRICS, MetricsLog, NoTrackerConfig, TensorBoardConfig, read_metrics


def row(step, kind="train"):
    return {"kind": kind, "step": step, "nll": step / 3}


def log_of(folder, step=0):
    return MetricsLog(folder, NoTrackerConfig().open(folder), step)


def test_rows_come_back_to_the_bit(tmp_path):
    folder = open_location(str(tmp_path))
    log = log_of(folder)
    for step in range(5):
        log.log(row(step))
    log.close()
    assert read_metrics(folder.join(METRICS)) == [row(step) for step in range(5)]


def test_after_a_resume_rows_past_the_checkpoint_are_gone(tmp_path):
    folder = open_location(str(tmp_path))
    first = log_of(folder)
    for step in (1, 2, 3):
        first.log(row(step))
        first.log(row(step, "valid"))
    first.close()
    second = log_of(folder, step=2)
    second.log(row(3))
    second.close()
    assert [(r["step"], r["kind"]) for r in read_metrics(folder.join(METRICS))] == [
        (1, "train"),
        (1, "valid"),
        (2, "train"),
        (2, "valid"),
        (3, "train"),
    ]


def test_a_resume_without_a_file_begins_anew(tmp_path):
    assert log_of(open_location(str(tmp_path)), step=7).rows == []


def test_a_tracker_sees_every_row_and_is_closed(tmp_path):
    class Recorder:
        def __init__(self):
            self.rows, self.closed = [], False

        def log(self, row):
            self.rows.append(row)

        def close(self):
            self.closed = True

    tracker = Recorder()
    log = MetricsLog(open_location(str(tmp_path)), tracker)
    log.log(row(1))
    log.close()
    assert (tracker.rows, tracker.closed) == ([row(1)], True)


def test_tensorboard_writes_beside_the_run_and_needs_a_local_folder(tmp_path):
    tracker = TensorBoardConfig().open(open_location(str(tmp_path)))
    tracker.log({**row(1), "tokens": 5})
    tracker.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/nll" in file.read_bytes()
    assert b"train/kind" not in file.read_bytes()
    with pytest.raises(ConfigError, match=r"needs a local output folder; set tracker=none"):
        TensorBoardConfig().open(open_location("mock:///run"))
