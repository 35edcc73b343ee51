import json
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.wire.messages import Committed
from stages.display.display import Display
from stages.display.spec import DisplaySettings
from tests.support.deliveries import eventful_run, outcome, play, records

SOURCES = ["clip.mp4", "b.mp4"]


def tracks(line: bytes) -> list[int]:
    return [face["track"] for face in json.loads(line)["faces"]]


def length(path: Path) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def test_without_outputs_records_are_made_all_the_same() -> None:
    display = Display(DisplaySettings(mode="none"), SOURCES, None)
    assert not display.wants_pixels
    lines = play(display, eventful_run(3, tuple(SOURCES)))
    assert all(line.startswith(b'{"source":') for line in lines)
    assert display.committed["b.mp4"].offset == 3
    assert display.poll() is None
    display.close()


def test_an_outcome_that_was_written_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    display = Display(DisplaySettings(mode="none", results=str(path)), SOURCES, None)
    assert display.deliver(*outcome(0)) and display.deliver(*outcome(1))
    assert display.deliver(*outcome(0)) == b""
    assert display.deliver(*outcome(1)) == b""
    display.close()
    assert [record["frame"] for record in records(path)] == [0, 1]


def test_the_broker_may_know_more_but_never_less() -> None:
    display = Display(DisplaySettings(mode="none"), SOURCES, None)
    display.deliver(*outcome(0))
    more = Committed(offset=9, ok=8, dropped={"slow": 1})
    display.adopt({"b.mp4": more, "clip.mp4": Committed()})
    assert display.committed == {"clip.mp4": Committed(offset=1, ok=1), "b.mp4": more}
    assert display.deliver(*outcome(8, source="b.mp4")) == b""
    assert display.deliver(*outcome(9, source="b.mp4"))
    display.close()


def test_a_recording_holds_the_frames_that_brought_pixels_with_their_faces(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    display = Display(DisplaySettings(mode="none", record=str(path)), SOURCES, None)
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
    display.complete()
    assert not (tmp_path / "out-2.mkv").exists()


def test_a_new_process_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    settings = DisplaySettings(mode="none", record=str(tmp_path / "out.mp4"), results=str(tmp_path / "r.csv"))
    run = [outcome(n, [(20.0 + n, 20.0, 20.0, 20.0)], pixels=True) for n in range(20)]
    first = Display(settings, ["clip.mp4"], tmp_path / "display.json")
    play(first, run[:12])
    first.close()
    kept = (tmp_path / "out.mp4").read_bytes()
    second = Display(settings, ["clip.mp4"], tmp_path / "display.json")
    assert [bool(line) for line in play(second, run)] == [False] * 12 + [True] * 8
    second.close()
    assert (tmp_path / "out.mp4").read_bytes() == kept
    assert (length(tmp_path / "out.mp4"), length(tmp_path / "out.part2.mp4")) == (12, 8)


def test_what_was_opened_is_closed_when_the_next_cannot_be(tmp_path: Path) -> None:
    settings = DisplaySettings(
        mode="none", results=str(tmp_path / "r.jsonl"), record=str(tmp_path / "absent" / "out.mkv")
    )
    with pytest.raises(UserError, match="recording"):
        Display(settings, SOURCES, None)


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    display = Display(
        DisplaySettings(mode="none", results=str(tmp_path / "r.csv"), record=str(tmp_path / "o.mkv")),
        SOURCES,
        None,
    )
    display.close()
    display.close()
    display.end_source("clip.mp4")


def test_a_run_that_never_begins_leaves_what_an_earlier_one_wrote(tmp_path: Path) -> None:
    """Its parts too; and nothing where there was nothing."""
    outputs = {name: f"{name} of an earlier run".encode() for name in ("r.csv", "o.mkv", "o.part2.mkv")}
    for name, content in outputs.items():
        (tmp_path / name).write_bytes(content)
    settings = DisplaySettings(mode="none", results=str(tmp_path / "r.csv"), record=str(tmp_path / "o.mkv"))
    Display(settings, SOURCES, None).close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == outputs


def test_a_run_without_frames_leaves_none_of_an_earlier_one(tmp_path: Path) -> None:
    for name in ("r.jsonl", "o.mkv", "o.part2.mkv"):
        (tmp_path / name).write_bytes(b"of an earlier run")
    settings = DisplaySettings(mode="none", results=str(tmp_path / "r.jsonl"), record=str(tmp_path / "o.mkv"))
    display = Display(settings, ["clip.mp4"], None)
    display.complete()
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]
    assert (tmp_path / "r.jsonl").read_bytes() == b""


def test_a_recording_of_an_earlier_run_is_not_gone_on_with(tmp_path: Path) -> None:
    """The first frame is what begins it, whichever process brings it."""
    settings = DisplaySettings(mode="none", record=str(tmp_path / "o.mkv"))
    earlier = Display(settings, ["clip.mp4"], None)
    play(earlier, [outcome(n, pixels=True) for n in range(5)])
    earlier.close()
    (tmp_path / "o.part2.mkv").write_bytes((tmp_path / "o.mkv").read_bytes())
    killed = Display(settings, ["clip.mp4"], tmp_path / "display.json")
    killed.deliver(*outcome(0, status="dropped", reason="stale"))  # the run begins, the recording does not
    assert length(tmp_path / "o.mkv") == 5
    second = Display(settings, ["clip.mp4"], tmp_path / "display.json")
    play(second, [outcome(n, pixels=True) for n in range(1, 4)])
    second.close()
    assert length(tmp_path / "o.mkv") == 3
    assert not (tmp_path / "o.part2.mkv").exists()


def test_sources_that_were_not_known_keep_their_recordings(tmp_path: Path) -> None:
    """Whichever of them comes first after a restart."""
    settings = DisplaySettings(mode="none", record=str(tmp_path / "o.mkv"))
    first = Display(settings, [], tmp_path / "display.json")
    play(first, [outcome(0, source="a", pixels=True), outcome(0, source="b", pixels=True)])
    first.close()
    second = Display(settings, [], tmp_path / "display.json")
    play(second, [outcome(n, source="b", pixels=True) for n in (1, 2)])
    play(second, [outcome(n, source=s, pixels=True) for n, s in ((1, "a"), (0, "c"))])
    second.complete()
    found = {path.name: length(path) for path in tmp_path.glob("o*.mkv")}
    assert found == {"o.mkv": 1, "o-2.mkv": 1, "o-2.part2.mkv": 2, "o.part2.mkv": 1, "o-3.mkv": 1}


def test_without_results_tracks_go_on_and_no_number_is_given_twice(tmp_path: Path) -> None:
    checkpoint = tmp_path / "display.json"
    old, new, newest = (10.0, 10.0, 20.0, 20.0), (50.0, 10.0, 20.0, 20.0), (90.0, 10.0, 20.0, 20.0)
    first = Display(DisplaySettings(mode="none"), ["clip.mp4"], checkpoint)
    assert tracks(first.deliver(*outcome(0, [old, new]))) == [1, 2]
    second = Display(DisplaySettings(mode="none"), ["clip.mp4"], checkpoint)
    assert tracks(second.deliver(*outcome(1, [old, newest]))) == [1, 3]
