"""When a training's workers are started again and when not, and what a first and a second SIGTERM do."""

import os
import signal

import pytest

from jobs.distributed.notices import MAX_STARTS, Notices
from jobs.termination import sigterm_noted
from rnnlm.errors import EnvironmentFailure, NonFiniteError


def test_workers_that_get_on_start_again_for_ever():
    notices = Notices()
    for step in range(3 * MAX_STARTS):
        assert notices.start(f"step-{step}") == (step > 0)
        assert notices.start(f"step-{step}")
    assert notices.verdict() is None


def test_workers_that_never_get_on_are_given_up_with_their_last_error():
    notices = Notices()
    for number in range(MAX_STARTS):
        assert notices.start("step-5") == (number > 0)
        assert notices.verdict() is None
        notices.failed(f"ValueError: number {number}")
    notices.start("step-5")
    verdict = notices.verdict()
    assert isinstance(verdict, EnvironmentFailure)
    assert f"started {MAX_STARTS} times from step-5" in str(verdict)
    assert f"ValueError: number {MAX_STARTS - 1}" in str(verdict)


def test_an_error_of_the_users_is_the_verdict_at_once():
    notices, error = Notices(), NonFiniteError("the loss is nan")
    notices.failed(error)
    assert notices.verdict() is error


def test_the_first_sigterm_is_noted_and_the_second_does_what_it_did_before():
    def before(signum, frame):
        raise InterruptedError

    outside = signal.signal(signal.SIGTERM, before)
    try:
        with sigterm_noted() as told:
            assert not told.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            assert told.is_set()
            with pytest.raises(InterruptedError):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, outside)
