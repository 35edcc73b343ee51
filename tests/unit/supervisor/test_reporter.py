"""What stands at the end of a run of several machines."""

from typing import Any

from pipeline.supervisor.reporter import Rates, summary
from pipeline.wire.messages import PeerReport, Progress, SourceReport, StatusReport

FAR = PeerReport("slot", "capture-1", "capture", 0.1, False, True, -1_000_000_123_456, 250_000)
NEAR = PeerReport("slot-2", "display", "display", 0.1, False)
SOURCE = SourceReport("clip", "file", 2, 0, Progress(2, 2), True, "")


def report(*peers: PeerReport, finished: bool = False) -> StatusReport:
    fields: dict[str, Any] = {"steps": {}, "busy_ns": {}, "batches": {}, "held_bytes": 0, "bad_messages": 0}
    return StatusReport(
        "broker-a", True, finished, "", 0.25, [SOURCE], list(peers), latency_ns=[5], elapsed_s=1.0, **fields
    )


def test_the_clocks_that_latency_rests_on_are_stated() -> None:
    rates = Rates()
    rates.update(report(FAR, NEAR))
    rates.update(report(NEAR, finished=True))  # it has left
    rates.update(report(finished=True))
    last = summary([SOURCE], rates, 1.0).splitlines()[-1]
    assert last == "latency is on the broker's clock: capture-1 -1000.000123 s ± 0.25 ms"


def test_on_one_machine_there_is_but_one_clock() -> None:
    rates = Rates()
    rates.update(report(NEAR))
    assert "clock" not in summary([SOURCE], rates, 1.0)
