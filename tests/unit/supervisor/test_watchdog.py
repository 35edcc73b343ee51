"""Whom the supervisor kills since the broker misses it."""

import pytest

from pipeline.supervisor.watchdog import AWAY_S, Watchdog
from pipeline.wire.messages import PeerReport, StatusReport
from tests.support.broker_world import make_report

PATIENCE_S = 1.5


def report(broker: str, *instances: str, timed_out: str = "", silent_s: float = 0.1) -> StatusReport:
    peers = [PeerReport(instance, instance, "detect", silent_s, timed_out=False) for instance in instances]
    if timed_out:
        peers.append(PeerReport(timed_out, timed_out, "detect", 2.0, timed_out=True))
    return make_report(broker=broker, peers=peers)


@pytest.fixture
def here() -> Watchdog:
    return Watchdog(PATIENCE_S)


def test_one_that_is_given_up_is_killed_at_once(here: Watchdog) -> None:
    here.receive(report("a", "one", "two"), 0.0)
    here.receive(report("a", "one", timed_out="two"), 1.0)
    assert here.overdue(1.0) == {"two"}
    assert here.overdue(9.0) == set()


def test_one_that_does_not_come_back_to_a_new_broker_is_killed(here: Watchdog) -> None:
    here.receive(report("a", "one", "two"), 0.0)
    here.receive(report("b"), 5.0)
    here.receive(report("b", "one"), 5.25)
    assert here.overdue(5.0 + PATIENCE_S - 0.1) == set()
    assert here.overdue(5.0 + PATIENCE_S) == {"two"}


def test_one_whose_steps_are_long_may_take_long_to_find_a_new_broker(here: Watchdog) -> None:
    here.receive(report("a", "slow", silent_s=5.0), 0.0)
    here.receive(report("a", "slow"), 1.0)
    here.receive(report("b"), 5.0)
    assert here.overdue(14.9) == set()
    assert here.overdue(15.0) == {"slow"}


def test_a_process_that_is_started_is_not_missed(here: Watchdog) -> None:
    here.receive(report("a", "one"), 0.0)
    here.started("one")
    here.receive(report("b"), 5.0)
    assert here.overdue(99.0) == set()


def test_a_stage_that_a_network_cut_off_has_time_to_come_back() -> None:
    away = Watchdog(PATIENCE_S, away=["one"])
    away.receive(report("a", "one"), 0.0)
    away.receive(report("a", timed_out="one"), 5.0)
    assert away.overdue(5.0) == set()
    away.receive(report("a", "one"), 6.0)
    assert away.overdue(99.0) == set()
    away.receive(report("a", timed_out="one"), 100.0)
    assert away.overdue(100.0 + AWAY_S) == {"one"}
