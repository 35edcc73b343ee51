"""A sink needs only what `Sink` says."""

from pathlib import Path

import pytest

from stages.display import display as display_module
from stages.display.display import Display
from stages.display.output_file import OutputFailed
from stages.display.sinks.sink import NullSink, Opening, Outcome, Sink, open_sinks
from stages.display.spec import SHOWN, DisplaySettings
from tests.support.deliveries import opening, outcome


class ListSink(Sink):
    """Keeps what it is given."""

    def __init__(self, run: Opening) -> None:
        self.seen: list[tuple[int, bool]] = []
        self.calls: list[str] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def write(self, outcome: Outcome) -> None:
        self.seen.append((outcome.record.frame, outcome.drawn is not None))

    def end_source(self, source: str) -> None:
        self.calls.append(f"end {source}")

    def complete(self) -> None:
        self.calls.append("complete")

    def close(self) -> None:
        self.calls.append("close")


def show(monkeypatch: pytest.MonkeyPatch, *sinks: Sink) -> Display:
    monkeypatch.setattr(display_module, "open_sinks", lambda *arguments: list(sinks))
    return Display(DisplaySettings(mode="none"), ["clip.mp4"], None)


def test_sink_gets_every_outcome_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ListSink(opening())
    display = show(monkeypatch, sink)
    assert not display.wants_pixels and not display.watched
    display.deliver(*outcome(0, pixels=True))
    display.deliver(*outcome(1, status="dropped", reason="stale"))
    display.end_source("clip.mp4")
    display.complete()
    assert sink.seen == [(0, True), (1, False)]
    assert sink.calls == ["begin", "end clip.mp4", "complete", "close"]


def test_picture_is_drawn_once_for_all_sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr("stages.display.drawing.draw_faces", lambda image, faces: drawn.append(1))
    display = show(monkeypatch, NullSink(opening()), ListSink(opening()))
    assert display.wants_pixels
    display.deliver(*outcome(0, pixels=True))
    assert drawn == [1]


def test_all_sinks_are_closed_though_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Sink):
        def close(self) -> None:
            raise OutputFailed("results", Path("r.jsonl"), "the disk is gone")

    before, after = ListSink(opening()), ListSink(opening())
    display = show(monkeypatch, before, Failing(opening()), after)
    with pytest.raises(OutputFailed):
        display.close()
    assert before.calls == after.calls == ["close"]


def test_a_line_in_a_table_adds_a_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHOWN, "list", (__name__, "ListSink"))
    (sink,) = open_sinks(opening(mode="list"))
    assert isinstance(sink, ListSink)
