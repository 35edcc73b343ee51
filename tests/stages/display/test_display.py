from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.messages import Progress
from pipeline.settings import DisplaySettings
from stages.display.display import Display
from tests.stages.display.deliveries import eventful_run, outcome, play, records

SOURCES = ["clip.mp4", "b.mp4"]


def length(path: Path) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def test_without_outputs_records_are_made_all_the_same() -> None:
    display = Display(DisplaySettings(mode="none"), SOURCES, False)
    assert not display.wants_pixels
    lines = play(display, eventful_run(3, tuple(SOURCES)))
    assert all(line.startswith(b'{"source":') for line in lines)
    assert display.progress["b.mp4"].written == 3
    assert display.poll() is None
    display.close()


def test_an_outcome_that_was_written_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    display = Display(DisplaySettings(mode="none", results=str(path)), SOURCES, False)
    assert display.deliver(*outcome(0)) and display.deliver(*outcome(1))
    assert display.deliver(*outcome(0)) == b""
    assert display.deliver(*outcome(1)) == b""
    display.close()
    assert [record["frame"] for record in records(path)] == [0, 1]


def test_the_broker_may_know_more_but_never_less() -> None:
    display = Display(DisplaySettings(mode="none"), SOURCES, True)
    display.deliver(*outcome(0))
    more = Progress(written=9, ok=8, dropped={"slow": 1})
    display.adopt({"b.mp4": more, "clip.mp4": Progress()})
    assert display.progress == {"clip.mp4": Progress(written=1, ok=1), "b.mp4": more}
    assert display.deliver(*outcome(8, source="b.mp4")) == b""
    assert display.deliver(*outcome(9, source="b.mp4"))
    display.close()


def test_a_recording_holds_the_frames_that_brought_pixels_with_their_faces(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    display = Display(DisplaySettings(mode="none", record=str(path)), SOURCES, False)
    assert display.wants_pixels
    for sequence in range(10):
        one = outcome(sequence, [(20.0, 20.0, 20.0, 20.0)], pixels=sequence != 4)
        before = None if one.image is None else one.image.copy()
        if one.image is not None:
            one.image.flags.writeable = False  # as it is when it comes from a message
        display.deliver(*one)
        assert one.image is None or before is None or np.array_equal(one.image, before)
    display.end_source("clip.mp4")
    assert length(path) == 9  # complete as soon as its source has ended
    display.close()
    assert not (tmp_path / "out-2.mkv").exists()


def test_a_new_process_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    settings = DisplaySettings(mode="none", record=str(tmp_path / "out.mp4"), results=str(tmp_path / "r.csv"))
    run = [outcome(n, [(20.0 + n, 20.0, 20.0, 20.0)], pixels=True) for n in range(20)]
    first = Display(settings, ["clip.mp4"], False)
    play(first, run[:12])
    first.close()
    kept = (tmp_path / "out.mp4").read_bytes()
    second = Display(settings, ["clip.mp4"], True)
    assert [bool(line) for line in play(second, run)] == [False] * 12 + [True] * 8
    second.close()
    assert (tmp_path / "out.mp4").read_bytes() == kept
    assert (length(tmp_path / "out.mp4"), length(tmp_path / "out.part2.mp4")) == (12, 8)


def test_what_was_opened_is_closed_when_the_next_cannot_be(tmp_path: Path) -> None:
    settings = DisplaySettings(
        mode="none", results=str(tmp_path / "r.jsonl"), record=str(tmp_path / "absent" / "out.mkv")
    )
    with pytest.raises(UserError, match="recording"):
        Display(settings, SOURCES, False)


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    display = Display(
        DisplaySettings(mode="none", results=str(tmp_path / "r.csv"), record=str(tmp_path / "o.mkv")),
        SOURCES,
        False,
    )
    display.close()
    display.close()
    display.end_source("clip.mp4")
