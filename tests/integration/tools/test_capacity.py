"""What a core carries, measured in small, and the simulation of many cameras."""

import pytest

from tools.capacity import carry

simulate = pytest.importorskip("tools.simulate", reason="needs SimPy (requirements-dev.txt)")

SOURCES = [f"camera-{number}" for number in range(1000)]
BROKERS = [f"broker-{number}" for number in range(10)]


@pytest.mark.parametrize("link", ["ipc", "tcp"])
def test_a_broker_is_measured(link: str) -> None:
    assert 0 < carry(link, "jpeg", (64, 48)).cpu_ms < 1000


def test_the_loss_of_a_broker_moves_its_own_sources_alone() -> None:
    before = {source: simulate.place(source, BROKERS) for source in SOURCES}
    after = {source: simulate.place(source, BROKERS[1:]) for source in SOURCES}
    moved = [source for source in SOURCES if before[source] != after[source]]
    assert moved == [source for source in SOURCES if before[source] == BROKERS[0]]
    assert len({after[source] for source in moved}) > 5, "they are spread over the others"


def test_what_fits_is_handled_and_what_does_not_is_dropped() -> None:
    times = simulate.Times(detect=10.0, detectors=1)
    fits = simulate.simulate(5, 1, 15.0, times, seconds=20.0)
    assert fits.dropped == 0
    assert fits.busy["detect"] == pytest.approx(0.75, abs=0.03)
    overload = simulate.simulate(20, 1, 15.0, times, seconds=20.0)
    assert overload.ok / 20 == pytest.approx(100, rel=0.05)
    assert overload.latency_ms[1] < 500


def test_failures_cost_frames_and_pass() -> None:
    times = simulate.Times(detectors=4)
    calm = simulate.simulate(80, 4, 10.0, times, seconds=20.0)
    troubled = simulate.simulate(80, 4, 10.0, times, seconds=20.0, failures=True)
    assert calm.dropped == 0
    assert 0.02 < troubled.dropped / (troubled.ok + troubled.dropped) < 0.1
