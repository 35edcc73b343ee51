import csv
import re
import resource
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.wire.messages import Committed
from stages.display.checkpoint import Checkpoint
from stages.display.display import Display
from stages.display.output_file import OutputFailed, Patience
from stages.display.sinks.results import COLUMNS
from stages.display.spec import DisplaySettings
from tests.support.deliveries import eventful_run, outcome, play, records, written

AWKWARD = ("clip.mp4", 'a "b",\r\nc; é')
FORMATS = pytest.mark.parametrize("extension", [".jsonl", ".csv"])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def test_jsonl_has_every_record_in_order(tmp_path: Path) -> None:
    run = eventful_run(10, AWKWARD)
    path = tmp_path / "r.jsonl"
    display = Display(DisplaySettings(mode="none", results=str(path)), list(AWKWARD), None)
    lines = play(display, run)
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines)  # already, before it is closed
    display.close()
    assert [(r["source"], r["frame"]) for r in records(path)] == [
        (one.delivery.source, one.delivery.sequence) for one in run
    ]


def test_csv_has_a_row_a_face_and_one_for_a_frame_without(tmp_path: Path) -> None:
    run = [
        outcome(0, [(1.0, 2.0, 30.0, 40.0), (50.0, 2.0, 30.0, 40.0)], source=AWKWARD[1], file="x,y.png"),
        outcome(1, source=AWKWARD[1]),
        outcome(2, source=AWKWARD[1], status="dropped", reason='a "reason"'),
    ]
    path = tmp_path / "r.csv"
    written(path, [AWKWARD[1]], run)
    found = rows(path)
    assert tuple(found[0]) == COLUMNS
    assert [row["frame"] for row in found] == ["0", "0", "1", "2"]
    assert {row["source"] for row in found} == {AWKWARD[1]}
    assert [row["faces"] for row in found] == ["2", "2", "0", "0"]
    assert [row["track"] for row in found] == ["1", "2", "", ""]
    assert (found[0]["file"], found[3]["reason"]) == ("x,y.png", 'a "reason"')
    assert [found[1][name] for name in "xywh"] == ["50.0", "2.0", "30.0", "40.0"]
    assert found[0]["confidence"] == found[0][found[0]["emotion"]]
    assert all(found[2][name] == "" for name in ("track", *"xywh", "emotion", "confidence", *EMOTIONS))


@FORMATS
def test_a_process_killed_at_any_moment_is_gone_on_from_as_if_nothing_had_been(
    tmp_path: Path, extension: str
) -> None:
    """From each checkpoint that there is, whole or followed by half a line, and results cut off anywhere
    after it."""
    run = eventful_run(12, AWKWARD)
    path, checkpoint = tmp_path / f"r{extension}", tmp_path / "display.json"
    display = Display(DisplaySettings(mode="none", results=str(path)), list(AWKWARD), checkpoint)
    kept: dict[bytes, int] = {}  # checkpoint -> the results' length when it was made
    for one in run:
        display.deliver(*one)
        kept[checkpoint.read_bytes()] = path.stat().st_size
    display.close()
    whole = path.read_bytes()
    assert len(kept) == len(run)
    for state, length in kept.items():
        for cut in {length, *range(length, len(whole), 67 * len(kept)), len(whole)}:
            for torn in (b"", state.splitlines()[-1]):
                path.write_bytes(whole[:cut])
                checkpoint.write_bytes(state + torn)
                assert written(path, list(AWKWARD), run, checkpoint) == whole, f"from {length}, cut at {cut}"


@FORMATS
def test_what_was_killed_before_its_first_record_leaves_the_results_of_an_earlier_run_to_the_next(
    tmp_path: Path, extension: str
) -> None:
    """They stay while nothing has come, and are gone with the first record; none of them is gone on with."""
    path, checkpoint = tmp_path / f"r{extension}", tmp_path / "display.json"
    earlier = written(path, ["old.mp4"], [outcome(0, source="old.mp4")])
    settings = DisplaySettings(mode="none", results=str(path))
    Display(settings, ["clip.mp4"], checkpoint)  # killed: not closed
    assert path.read_bytes() == earlier
    second = Display(settings, ["clip.mp4"], checkpoint)
    assert second.committed == {} and path.read_bytes() == earlier
    second.deliver(*outcome(0))
    assert b"old.mp4" not in path.read_bytes()
    third = Display(settings, ["clip.mp4"], checkpoint)
    assert third.committed["clip.mp4"].offset == 1
    third.close()


@FORMATS
def test_a_process_killed_between_emptying_and_its_checkpoint_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    path, checkpoint = tmp_path / f"r{extension}", tmp_path / "display.json"
    once = written(tmp_path / f"once{extension}", ["clip.mp4"], [outcome(0)])
    path.write_bytes(b"of an earlier run\n")
    display = Display(DisplaySettings(mode="none", results=str(path)), ["clip.mp4"], checkpoint)
    monkeypatch.setattr(Checkpoint, "_save", lambda self, state, changed: None)
    display.begin()
    monkeypatch.undo()
    assert not Checkpoint(checkpoint, Patience()).state.begun
    assert written(path, ["clip.mp4"], [outcome(0)], checkpoint) == once


@FORMATS
def test_progress_is_read_back(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"r{extension}"
    run = eventful_run(20, AWKWARD)
    settings = DisplaySettings(mode="none", results=str(path))
    first = Display(settings, list(AWKWARD), tmp_path / "display.json")
    play(first, run)
    first.close()
    second = Display(settings, list(AWKWARD), tmp_path / "display.json")
    assert second.committed == first.committed
    assert first.committed[AWKWARD[0]].offset == 20
    assert sum(first.committed[AWKWARD[0]].dropped.values()) > 0
    second.close()


@FORMATS
def test_a_file_is_written_anew_at_the_start_of_a_run(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"r{extension}"
    once = written(path, ["clip.mp4"], [outcome(0)])
    path.write_text("something else")
    assert written(path, ["clip.mp4"], [outcome(0)]) == once


def test_results_that_are_too_short_are_not_gone_on_with(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "r.jsonl", tmp_path / "display.json"
    first = len(written(tmp_path / "once.jsonl", ["clip.mp4"], [outcome(0)]))
    content = written(path, ["clip.mp4"], [outcome(0), outcome(1)], checkpoint)[: first - 1]
    path.write_bytes(content)
    with pytest.raises(OutputFailed, match="another program has cut it"):
        Display(DisplaySettings(mode="none", results=str(path)), ["clip.mp4"], checkpoint)
    assert path.read_bytes() == content


@FORMATS
def test_a_whole_record_stays_and_a_torn_one_is_taken_back(tmp_path: Path, extension: str) -> None:
    """Whenever its process is killed: programs that follow a file never see a record change."""
    settings = DisplaySettings(mode="none", results=str(tmp_path / f"r{extension}"))
    path, checkpoint = Path(settings.results), tmp_path / "display.json"
    first = len(written(path, ["clip.mp4"], [outcome(0)], checkpoint))
    content = written(path, ["clip.mp4"], [outcome(0), outcome(1)], checkpoint)
    kept = checkpoint.read_bytes()
    for size in range(first, len(content) + 1):
        path.write_bytes(content[:size])
        checkpoint.write_bytes(kept)
        display = Display(settings, ["clip.mp4"], checkpoint)
        whole = size == len(content)
        assert display.committed["clip.mp4"].offset == (2 if whole else 1)
        display.deliver(*outcome(1))
        display.close()
        assert path.read_bytes() == content


def test_a_checkpoint_that_cannot_be_written_ends_a_run_with_results_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without them there is one warning."""
    place = tmp_path / "run"
    for results in ("", str(tmp_path / "r.jsonl")):
        place.mkdir(mode=0o700)
        display = Display(DisplaySettings(mode="none", results=results), ["clip.mp4"], place / "display.json")
        display.deliver(*outcome(0))
        (place / "display.json").unlink()
        place.rmdir()
        if results:
            with pytest.raises(OutputFailed, match=r"checkpoint .*: No such file or directory"):
                display.deliver(*outcome(1))
        else:
            assert display.deliver(*outcome(1)) and display.deliver(*outcome(2))
            assert "a restart may forget tracks" in caplog.text and len(caplog.records) == 1
        display.close()


def test_a_checkpoint_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.display.checkpoint.LARGEST_BYTES", 5000)
    path, checkpoint = tmp_path / "r.jsonl", tmp_path / "display.json"
    display = Display(DisplaySettings(mode="none", results=str(path)), list(AWKWARD), checkpoint)
    for one in eventful_run(20, AWKWARD):
        display.deliver(*one)
        assert checkpoint.stat().st_size < 10_000
        assert Checkpoint(checkpoint, Patience(), path).state.sources.keys() == display.committed.keys()
    display.close()


def test_an_unwritable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "absent" / "r.jsonl", tmp_path / "folder.csv"):
        with pytest.raises(UserError, match=re.escape(f"results {path}: cannot be written")) as caught:
            Display(DisplaySettings(mode="none", results=str(path)), ["clip.mp4"], None)
        assert not isinstance(caught.value, OutputFailed)


def test_a_full_disk_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    display = Display(DisplaySettings(mode="none", results=str(path)), ["clip.mp4"], None)
    first = display.deliver(*outcome(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(first) + 20, limits[1]))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(
            OutputFailed, match=r"results .*r\.jsonl: cannot be written any more: File too large"
        ):
            display.deliver(*outcome(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == first + b"\n"  # the torn part is taken back
    assert display.committed["clip.mp4"] == Committed(offset=1, ok=1)
    display.close()
