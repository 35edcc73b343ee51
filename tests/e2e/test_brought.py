"""What people bring, through whole runs: standard input, web addresses, faces cropped before, pictures."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import cv2
import pytest

from tests.support.media import corner, noise, write_clip, write_film
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl, video_facts
from tests.support.web_files import ReplayedStream, WebFiles

CASES = {
    "base.mp4": 20,
    "cover_udta_first.mp4": 20,
    "sar.mp4": 20,
    "hf_matrix.mp4": 20,
    "audiolong.flv": 20,
    "audiolong.ts": 20,
}


@pytest.mark.parametrize(("name", "frames"), CASES.items())
def test_the_small_inputs_that_went_wrong(
    shared: Path, start: Start, tmp_path: Path, name: str, frames: int
) -> None:
    """With the project's own networks: happy in all frames, as in the undisturbed clip."""
    results, record = tmp_path / "r.jsonl", tmp_path / "r.mkv"
    words = ("--source", shared / "cases" / name, "--display", "none", "--results", results)
    done = start(*words, "--record", record).end()
    assert (done.status, done.errors) == (0, [])
    assert balance(frames, frames) in done.stdout
    records = read_jsonl(results)
    faces = [face for each in records for face in each["faces"]]
    assert [face["emotion"] for face in faces] == ["happy"] * frames
    assert faces[0]["box"] == pytest.approx([212.4, 40.1, 70.9, 98.0], abs=2.5)
    assert video_facts(record) == (frames, 480, 270)
    assert records[-1]["time_s"] - records[0]["time_s"] == pytest.approx(1.52, abs=0.001)


def test_pictures_beside_other_files(shared: Path, start: Start, quick: list[str], tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    folder = shared / "cases" / "pictures_with_dotfiles"
    done = start(*quick, "--source", folder, "--results", results).end()
    assert done.status == 0
    assert [record["file"] for record in read_jsonl(results)] == ["IMG_0001.jpg", "trunc.jpg", "x.jfif"]
    assert sum("pictures taken 3, left out 1: 1 .db" in line for line in done.stderr) == 1


def test_a_file_behind_http_is_read_once_and_whole(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    with WebFiles(clip.parent) as web:
        done = start(*quick, "--source", web.url("clip.mp4"), "--results", results).end()
        assert len(web.asked) <= 4
    assert (done.status, done.errors) == (0, [])
    assert balance(CLIP_FRAMES, CLIP_FRAMES) in done.stdout
    assert read_jsonl(results)[-1]["time_s"] == pytest.approx((CLIP_FRAMES - 1) / 25)


def test_start_and_duration(start: Start, quick: list[str], clip: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    words = ("--source", clip, "--start", "1", "--duration", "0.4", "--results", results)
    done = start(*quick, *words).end()
    assert (done.status, done.errors) == (0, [])
    assert [record["frame"] for record in read_jsonl(results)] == list(range(10))
    assert read_jsonl(results)[0]["time_s"] == 1.0


# ------------------------------------------------------------------------------------------ standard input


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    return write_film(tmp_path / "clip.ts", [[noise(n, 64, 48) for n in range(40)]])


def test_standard_input(start: Start, quick: list[str], pipe: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        done = start(*quick, "--source", "-", "--results", results, stdin=cat.stdout.fileno()).end()
    assert (done.status, done.errors) == (0, [])
    records = read_jsonl(results)
    assert (len(records), records[0]["source"]) == (40, "stdin")


def test_standard_input_from_a_file_that_has_its_index_at_the_end(
    start: Start, quick: list[str], tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "clip.mp4", [corner(64, 48)] * 10)
    with path.open("rb") as file:
        done = start(*quick, "--source", "-", stdin=file.fileno()).end()
    assert (done.status, done.errors) == (0, [])
    assert balance(10, 10) in done.stdout


def test_standard_input_without_a_video(start: Start, quick: list[str]) -> None:
    done = start(*quick, "--source", "-").end()
    assert done.status == 2
    (error,) = done.errors
    assert "source '-': what comes on standard input can't be read as a video" in error


def test_a_capture_that_dies_cannot_read_standard_input_again(
    start: Start, quick: list[str], pipe: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    reading, writing = os.pipe()
    run = start(*quick, "--source", "-", "--results", results, stdin=reading)
    os.close(reading)
    whole = threading.Event()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(pipe.read_bytes())
            file.flush()
            whole.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        run.until_records(results, 20)
        os.kill(run.pid("capture-1"), signal.SIGKILL)
        done = run.end()
    finally:
        whole.set()
        writer.join()
    assert done.status == 1
    assert any("standard input can be read only once" in line for line in done.stderr)
    assert len(read_jsonl(results)) >= 20


# ------------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder of pictures in which no detector finds anything."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), noise(number, 48, 64))
    return folder


def test_cropped_takes_each_picture_for_a_face_and_draws_it(
    start: Start, quick: list[str], faces: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    drawn = tmp_path / "drawn"
    words = ("--source", faces, "--cropped", "--results", results, "--record", f"{drawn}/")
    done = start(*quick, *words).end()
    assert (done.status, done.errors) == (0, [])
    boxes = [[face["box"] for face in record["faces"]] for record in read_jsonl(results)]
    assert boxes == [[[0.0, 0.0, 48.0, 64.0]]] * 5
    assert sorted(path.name for path in drawn.iterdir()) == [f"{number}.png" for number in range(5)]
    for path in drawn.iterdir():
        picture, original = cv2.imread(str(path)), cv2.imread(str(faces / path.name))
        assert picture.shape == original.shape
        assert (picture != original).any()


def test_a_single_picture_is_drawn_into_a_folder(
    start: Start, quick: list[str], faces: Path, tmp_path: Path
) -> None:
    done = start(*quick, "--source", faces / "3.png", "--record", tmp_path / "drawn").end()
    assert (done.status, done.errors) == (0, [])
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["3.png"]


@pytest.mark.parametrize(
    ("source", "option", "target"),
    [
        ("faces/3.png", "--record", "faces"),
        ("faces/*.png", "--record", "faces/"),
        ("faces", "--record", "faces"),
        ("*/*.png", "--record", "."),
        ("file://{}/clip.mkv", "--record", "clip.mkv"),
        ("*.mkv", "--record", "clip.mkv"),
        ("clip.mkv#0", "--record", "clip.mkv"),
    ],
)
def test_no_source_is_written_over(
    start: Start, faces: Path, tmp_path: Path, source: str, option: str, target: str
) -> None:
    write_clip(tmp_path / "clip.mkv", [noise(0, 64, 48)])
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more" / "1.png"), noise(0, 8, 8))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    source = source.format(tmp_path) if source.startswith("file") else str(tmp_path / source)
    done = start("--display", "none", "--source", source, option, tmp_path / target).end()
    assert done.status == 2
    (error,) = done.errors
    assert "source" in error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_pattern_without_quotes_is_explained(start: Start, faces: Path) -> None:
    done = start("--source", faces / "1.png", faces / "2.png").end()
    assert done.status == 2
    assert "a pattern needs quotes" in done.errors[0]


def test_recordings_keep_the_size_that_boxes_are_in(start: Start, quick: list[str], tmp_path: Path) -> None:
    path = write_film(tmp_path / "clip.mkv", [[noise(n, 64, 48) for n in range(5)]], pixel_ratio=2)
    results, record = tmp_path / "r.jsonl", tmp_path / "out.mkv"
    done = start(*quick, "--source", path, "--cropped", "--results", results, "--record", record).end()
    assert (done.status, done.errors) == (0, [])
    assert read_jsonl(results)[0]["faces"][0]["box"] == [0.0, 0.0, 128.0, 48.0]
    assert video_facts(record) == (5, 128, 48)


def test_a_stream_that_gives_the_same_again_and_again_is_given_up(start: Start, quick: list[str]) -> None:
    """An address that plays a recording to whoever asks, as a live stream."""
    with ReplayedStream([noise(n, 64, 48) for n in range(40)]) as stream:
        done = start(*quick, "--source", stream.url, "--set", "capture.reopen_attempts=2").end()
    assert done.status == 1
    assert stream.asked == 3
    assert any(
        "given up after 2 attempts to open it again, which gave the same pictures each time" in line
        for line in done.stderr
    )
