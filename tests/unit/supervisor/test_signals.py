"""Signals are recorded, and everything is as before afterwards."""

import os
import signal
from collections.abc import Iterator

import pytest

from pipeline.supervisor.runner import Signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A test that fails leaves the handlers of the others alone."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the tests themselves begin with it ignored
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_they_are_recorded_in_their_order() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
    assert signals.received == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    assert signal.getsignal(signal.SIGTERM) is before


def test_under_nohup_the_terminal_may_go() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
    assert signals.received == []
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_ctrl_z_asks_for_a_pause_and_is_no_end() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTSTP)
        assert (signals.suspend, signals.received) == (True, [])
    assert signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL
