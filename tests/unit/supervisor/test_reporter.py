"""What is printed of a run while it goes and at its end."""

from typing import Any

from msgspec.structs import replace
from rich.console import Console

from pipeline.supervisor.reporter import Rates, render, status_line, summary
from pipeline.wire.messages import Committed, PeerReport, SourceReport, StatusReport

FAR = PeerReport("instance", "capture-1", "capture", 0.1, False, True, -1_000_000_123_456, 250_000)
NEAR = PeerReport("instance-2", "display", "display", 0.1, False)
SOURCE = SourceReport("clip", "file", 2, 0, Committed(2, 2), True, "")


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


def test_an_offset_whose_error_is_larger_is_left_out() -> None:
    rates = Rates()
    rates.update(report(replace(FAR, offset_ns=100_000)))
    last = summary([SOURCE], rates, 1.0).splitlines()[-1]
    assert last == "latency is on the broker's clock: capture-1 ± 0.25 ms"


def test_a_figure_that_is_not_known_is_left_out() -> None:
    rates = Rates()
    rates.update(replace(report(NEAR), latency_ns=[]))
    assert status_line(rates) == "dropped 0, failed 0"
    assert summary([SOURCE], rates, 1.0).splitlines()[-1] == "2 frames in 1.0 s: 2.0 frames/s"
    for _ in range(4):
        rates.update(replace(report(NEAR), latency_ns=[], batches={"4": 1, "2": 1}, steps={"detect": 5}))
    assert status_line(rates) == ("frames/s: capture 0.0, detect 5.0; mean batch 3.0; dropped 0, failed 0")
    console = Console(width=120)
    with console.capture() as shown:
        console.print(render(rates, 120, 40))
    assert "nan" not in shown.get()
    assert "latency" not in shown.get()


def test_the_status_names_what_is_missing() -> None:
    rates = Rates()
    rates.update(report(NEAR), "detect")
    assert status_line(rates).startswith("waiting for detect; latency p50 ")
    console = Console(width=120)
    with console.capture() as shown:
        console.print(render(rates, 120, 40))
    assert "waiting for detect" in shown.get()
    rates.update(report(NEAR, finished=True), "detect")  # stages leave
    assert "waiting" not in status_line(rates)


def test_on_one_machine_there_is_but_one_clock() -> None:
    rates = Rates()
    rates.update(report(NEAR))
    assert "clock" not in summary([SOURCE], rates, 1.0)
