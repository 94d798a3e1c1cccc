"""Nothing hangs for ever: work in this process is watched, and progress says when it ends."""

import subprocess
import sys
import time

import pytest

from jobs import progress
from jobs.progress import ProgressLine, duration
from jobs.stall import stall_watch
from tests.integration.pipeline import ROOT

HANGS = """
import time
from jobs.stall import stall_watch

def hangs_here():
    time.sleep(60)

with stall_watch(0.3) as touch:
    touch()
    hangs_here()
"""


def test_what_hangs_is_ended_with_its_stacks_and_exit_code_5():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert time.monotonic() - began < 30
    assert done.returncode == 5
    assert "in hangs_here" in done.stderr
    assert "StalledError: nothing moved for" in done.stderr


def test_what_moves_is_left_alone(monkeypatch):
    ended = []
    monkeypatch.setattr("jobs.stall.EXIT_NOW", ended.append)
    with stall_watch(0.4) as touch:
        for _ in range(8):
            time.sleep(0.1)
            touch()
    assert ended == []


def test_the_time_left_is_that_of_the_speed_since_the_start(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    shown = []
    line = ProgressLine("score", 100.0, lambda text, share: shown.append((text, share)), shown.append)
    line.skip(20.0)
    assert shown[-1] == ("score: resumed", 0.2)
    clock[0] = 1000.0  # models are loaded
    line.start()
    assert line.seconds_left(0.0) is None
    clock[0] = 1010.0
    line.update(8.0, "8 rows")
    assert shown[-1] == ("score: 8 rows, ETA 1:30", pytest.approx(0.28))


def test_durations():
    assert [duration(seconds) for seconds in (0.2, 59, 61, 3723)] == ["0:00", "0:59", "1:01", "1:02:03"]
