"""The stopwatch: parts add up to the whole, and cost nothing where none runs."""

import pytest

from rnnlm import stopwatch
from rnnlm.stopwatch import Stopwatch, lap


@pytest.fixture
def clock(monkeypatch):
    """A clock that is put forward by hand."""
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])

    def forward(seconds):
        now[0] += seconds

    return forward


def test_a_lap_stops_the_one_around_it(clock):
    watch = Stopwatch()
    with watch.running("rest"):
        clock(1.0)
        with lap("outer"):
            clock(2.0)
            with lap("inner"):
                clock(4.0)
            clock(8.0)
        with lap("inner"):
            clock(16.0)
        clock(32.0)
    clock(64.0)  # nobody is running
    assert watch.seconds == {"rest": 33.0, "outer": 10.0, "inner": 20.0}
    watch.reset()
    with watch.running("rest"):
        clock(1.0)
    assert watch.seconds == {"rest": 1.0}


def test_a_lap_outlives_an_error(clock):
    watch = Stopwatch()

    def fail():
        with watch.running("rest"), lap("part"):
            clock(1.0)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with watch.running("rest"):
        clock(2.0)
    assert watch.seconds == {"rest": 2.0, "part": 1.0}


def test_a_lap_without_a_stopwatch_is_nothing(clock):
    watch = Stopwatch()
    with lap("part"):
        clock(1.0)
    assert watch.seconds == {}
