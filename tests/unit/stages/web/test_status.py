"""The state of a run, from the broker's reports."""

from typing import Any

from msgspec.structs import replace

from pipeline.wire.messages import Committed, PeerReport, SourceReport
from stages.web.status import RunStatus
from tests.support.broker_world import make_report


def peers(*names: str, silent_s: float = 0.1) -> list[PeerReport]:
    return [PeerReport(name, name, name.partition("-")[0], silent_s, False) for name in names]


def states(status: RunStatus) -> dict[str, tuple[str, int]]:
    page = status.to_page({})
    return {process["name"]: (process["state"], process["restarts"]) for process in page["processes"]}


def sources(ok: int, **dropped: int) -> list[SourceReport]:
    captured = ok + sum(dropped.values())
    return [SourceReport('a "b"', "live", captured, 0, Committed(captured, ok, 0, dropped), False, "")]


def test_before_the_first_report_the_run_is_starting() -> None:
    page = RunStatus().to_page({})
    assert (page["state"], page["sources"]) == ("starting", [])


def test_rates_are_over_a_second() -> None:
    status = RunStatus()
    for ok in range(0, 60, 6):
        status.update(make_report(sources=sources(ok, stale=2)))
    page = status.to_page({'a "b"': [10.0, 20.0, 30.0]})
    (source,) = page["sources"]
    assert source["fps"] == 24.0
    assert source["dropped"] == {"stale": 2}
    assert source["latency_ms"] == {"p50": 20.0, "p95": 30.0}


def test_a_restart_is_seen_as_it_happens() -> None:
    status = RunStatus()
    status.update(make_report(peers=peers("detect-1", "display")))
    status.update(make_report(peers=peers("display")))
    assert states(status) == {"detect-1": ("away", 0), "display": ("running", 0)}
    status.update(make_report(peers=peers("detect-1", "display")))
    assert states(status) == {"detect-1": ("running", 1), "display": ("running", 0)}
    status.update(make_report(peers=peers("detect-1", "display", silent_s=1.4)))
    assert states(status)["detect-1"] == ("silent", 1)


def test_at_the_end_processes_leave_and_none_is_missed() -> None:
    status = RunStatus()
    status.update(make_report(peers=peers("detect-1", "capture-1")))
    (ended,) = sources(3)
    status.update(make_report(peers=peers("detect-1"), sources=[replace(ended, ended=True)]))
    assert states(status)["capture-1"] == ("ended", 0)
    status.update(make_report(finished=True))
    assert states(status) == {"detect-1": ("ended", 0), "capture-1": ("ended", 0)}
    assert status.to_page({})["state"] == "finished"


def test_names_of_processes_are_bounded() -> None:
    status: Any = RunStatus()
    for number in range(1000):
        status.update(make_report(peers=peers(f"detect-{number}")))
    assert len(status.metrics.processes) <= 256
