"""When processes are added and taken away."""

from typing import Any

import pytest

from pipeline.supervisor.scaling import Scaler
from pipeline.wire.messages import QueueReport
from tests.support.broker_world import make_report

STEP_S = 0.25


class Clock:
    """Tells a scaler the same thing, report by report."""

    def __init__(self, scaler: Scaler, running: int = 1) -> None:
        self.scaler = scaler
        self.running = running
        self.now_s = 100.0
        self.busy_ns = 0

    def wanted(
        self, seconds: float, age_s: float, busy: float, ready: int | None = None, **changes: Any
    ) -> int:
        """Return how many there should be after so long, in which `busy` of them worked all the time."""
        wanted = self.running
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.busy_ns += round(busy * STEP_S * 1e9)
            fields = {"queues": {"detect": QueueReport(1, age_s)}, "busy_ns": {"detect": self.busy_ns}}
            report = make_report(**{"started": True} | fields | changes)
            ready_now = self.running if ready is None else ready
            wanted = self.scaler.receive(report, self.running, ready_now, self.now_s)
            if wanted != self.running:
                break
        return wanted


@pytest.fixture
def scaler() -> Scaler:
    return Scaler("detect", least=1, most=3, target_age_s=0.1, idle_s=5.0)


def test_one_is_added_where_work_waits_too_long(scaler: Scaler) -> None:
    clock = Clock(scaler)
    assert clock.wanted(1.0, age_s=0.3, busy=1) == 1
    assert clock.wanted(2.0, age_s=0.3, busy=1) == 2


def test_none_is_added_while_one_is_on_its_way(scaler: Scaler) -> None:
    clock = Clock(scaler, running=2)
    assert clock.wanted(20.0, age_s=0.3, busy=1, ready=1) == 2


def test_none_is_added_above_the_limit(scaler: Scaler) -> None:
    assert Clock(scaler, running=3).wanted(20.0, age_s=0.3, busy=3) == 3


def test_one_is_taken_away_where_the_others_could_do_the_work(scaler: Scaler) -> None:
    clock = Clock(scaler, running=3)
    assert clock.wanted(4.0, age_s=0.0, busy=1) == 3
    assert clock.wanted(2.0, age_s=0.0, busy=1) == 2


def test_none_is_taken_away_that_is_needed(scaler: Scaler) -> None:
    assert Clock(scaler, running=2).wanted(20.0, age_s=0.0, busy=0.9) == 2


def test_none_is_taken_away_below_the_least(scaler: Scaler) -> None:
    assert Clock(scaler, running=1).wanted(20.0, age_s=0.0, busy=0.0) == 1


def test_a_new_broker_begins_anew(scaler: Scaler) -> None:
    clock = Clock(scaler)
    assert clock.wanted(1.25, age_s=0.3, busy=1, broker="a") == 1
    assert clock.wanted(1.25, age_s=0.3, busy=1, broker="b") == 1


def test_nothing_happens_before_the_start(scaler: Scaler) -> None:
    assert Clock(scaler).wanted(20.0, age_s=9.0, busy=1, started=False) == 1
