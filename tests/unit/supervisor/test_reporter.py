"""What is printed of a run while it goes and at its end."""

from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from pipeline.supervisor.reporter import Rates, render, status_line, summary
from pipeline.wire.messages import Committed, InView, PeerReport, SourceReport, StatusReport

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
        rates.update(replace(report(NEAR), latency_ns=[], batches={4: 1, 2: 1}, steps={"detect": 5}))
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


def file_report(number: int, done: int, *faces: InView, more: int = 0, **changes: Any) -> StatusReport:
    """The report of the second `number` of a run over a file of 300 frames."""
    fields: dict[str, Any] = {"frames": 300, "in_view": list(faces), "more": more}
    fields |= {"ended": False, "in_flight": 1} | changes
    source = replace(SOURCE, committed=Committed(done, done), **fields)
    return replace(report(NEAR), sources=[source], interval_s=1.0 if number else 0.0)


def shown(rates: Rates, width: int = 100, height: int = 40) -> list[str]:
    console = Console(width=width, height=height, soft_wrap=True)
    with console.capture() as text:
        console.print(render(rates, width, height))
    return text.get().splitlines()


HAPPY, UNSURE = InView(3, "happy", 0.931), InView(7, "uncertain", None)


def test_a_file_shows_how_much_is_done_and_how_long_the_rest_takes() -> None:
    rates = Rates()
    for second in range(5):
        rates.update(file_report(second, 20 * second))
    assert status_line(rates).startswith("clip 27%, 0:11 left; ")
    for width in (40, 60, 100):
        assert " 27%  0:11 " in f"{shown(rates, width)[1]} ", width
    rates.update(file_report(5, 300, ended=True, in_flight=0))
    assert "left" not in status_line(rates)
    assert "100%  ended" in shown(rates)[1]


def test_more_frames_than_announced_are_still_the_whole() -> None:
    rates = Rates()
    rates.update(file_report(0, 400))
    assert "100%" in shown(rates)[1]


def test_each_track_in_view_has_a_line() -> None:
    rates = Rates()
    rates.update(file_report(0, 1, HAPPY, UNSURE))
    assert status_line(rates).endswith("; in view: clip #3 happy 93%, clip #7 uncertain")
    lines = [line.split() for line in shown(rates)]
    assert ["clip", "3", "happy", "93%"] in lines
    assert ["7", "uncertain"] in lines


def test_faces_that_find_no_room_are_counted_and_come_before_the_stages() -> None:
    rates = Rates()
    rates.update(file_report(0, 1, *[HAPPY] * 8, more=4))
    for height in range(10, 40):
        lines = shown(rates, height=height)
        assert len(lines) < height
        named = sum(line.endswith("93%") for line in lines)
        assert f"and {12 - named} more" in lines
        assert any(line.startswith("stage") for line in lines) <= (named == 8)
    assert status_line(rates).endswith(" and 6 more")


@pytest.mark.parametrize("width", [40, 60, 84, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    rates = Rates()
    rates.update(file_report(0, 1, HAPPY, name="a_clip_with_a_name_of_great_length.mp4"))
    assert max(map(len, shown(rates, width))) <= width


@pytest.mark.parametrize("width", [40, 60, 100])
def test_a_long_name_leaves_room_for_the_emotions(width: int) -> None:
    rates = Rates()
    rates.update(file_report(0, 1, replace(HAPPY, label="fröhlich"), name="名" * 60 + ".mp4"))
    lines = [line.split() for line in shown(rates, width)]
    assert any(line[-3:] == ["3", "fröhlich", "93%"] for line in lines)


def test_a_name_is_shown_as_it_is() -> None:
    """Not as rich's markup, and in letters that the terminal has."""
    rates = Rates()
    rates.update(file_report(0, 1, replace(HAPPY, label="fröhlich"), name="[/b]ü"))
    console = Console(width=100)
    with console.capture() as text:
        console.print(render(rates, 100, 40, "ascii"))
    assert "[/b]?" in text.get() and "fr?hlich" in text.get()


def test_nobody_is_in_view_of_a_camera_that_brings_nothing() -> None:
    rates = Rates()
    for second in range(3):
        rates.update(file_report(second, 1, HAPPY, in_flight=0))
        assert ("in view" in status_line(rates)) == (second < 2)
