import csv
import re
import resource
from pathlib import Path

import msgspec
import pytest

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.wire.messages import Committed
from stages.display.display import Display
from stages.display.output_file import OutputFailed
from stages.display.resume import COLUMNS, Checkpoint
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
@pytest.mark.parametrize("every", [1, 7, 1000])
def test_a_process_killed_at_any_moment_is_gone_on_from_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str, every: int
) -> None:
    """From each checkpoint that there is, with the results cut off anywhere after it."""
    monkeypatch.setattr("stages.display.display.CHECKPOINT_EVERY", every)
    run = eventful_run(12, AWKWARD)
    path, checkpoint = tmp_path / f"r{extension}", tmp_path / "display.json"
    display = Display(DisplaySettings(mode="none", results=str(path)), list(AWKWARD), checkpoint)
    kept: dict[bytes, int] = {}  # checkpoint -> the results' length when it was made
    for one in run:
        display.deliver(*one)
        kept.setdefault(checkpoint.read_bytes(), path.stat().st_size)
    display.close()
    whole = path.read_bytes()
    assert len(kept) == 1 + len(run) // every - (every == 1)
    for state, length in kept.items():
        offset = msgspec.json.decode(state)["results"]["offset"]
        cuts = {length, *range(offset, len(whole), 67 * len(kept)), len(whole) - 1, len(whole)}
        for cut in cuts - set(range(offset)):
            path.write_bytes(whole[:cut])
            checkpoint.write_bytes(state)
            assert written(path, list(AWKWARD), run, checkpoint) == whole, f"from {offset}, cut at {cut}"


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
    monkeypatch.setattr(Checkpoint, "_save", lambda self, state: None)
    display.begin()
    monkeypatch.undo()
    assert not Checkpoint(checkpoint).state.begun
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
def test_a_restart_reads_only_what_came_after_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    """The records before it are overwritten: whoever reads them complains."""
    monkeypatch.setattr("stages.display.display.CHECKPOINT_EVERY", 10)
    path, checkpoint = tmp_path / f"r{extension}", tmp_path / "display.json"
    run = eventful_run(15, ("clip.mp4",))
    whole = written(path, ["clip.mp4"], run, checkpoint)
    offset = msgspec.json.decode(checkpoint.read_bytes())["results"]["offset"]
    path.write_bytes(b"\xff" * offset + whole[offset:])
    display = Display(DisplaySettings(mode="none", results=str(path)), ["clip.mp4"], checkpoint)
    assert display.committed["clip.mp4"].offset == 15
    display.close()


@FORMATS
def test_a_file_is_written_anew_at_the_start_of_a_run(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"r{extension}"
    once = written(path, ["clip.mp4"], [outcome(0)])
    path.write_text("something else")
    assert written(path, ["clip.mp4"], [outcome(0)]) == once


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.jsonl", b'{"hello": 1}\n'),
        ("r.jsonl", b"\xff\xfe\n"),
        ("r.csv", b"a,b,c\r\n"),
        ("r.csv", ",".join(COLUMNS).encode() + b"\r\na,b\r\n"),
        ("r.csv", ",".join(COLUMNS).encode() + b"\r\n" + b"x," * (len(COLUMNS) - 1) + b"x\r\n"),
    ],
)
def test_a_strange_file_is_not_gone_on_with(tmp_path: Path, name: str, content: bytes) -> None:
    path, checkpoint = tmp_path / name, tmp_path / "display.json"
    display = Display(DisplaySettings(mode="none", results=str(path)), ["clip.mp4"], checkpoint)
    display.begin()
    display.close()
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not this run's results after byte") as caught:
        Display(DisplaySettings(mode="none", results=str(path)), ["clip.mp4"], checkpoint)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


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
