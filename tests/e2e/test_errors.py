"""Each thing that people get wrong: one clear line on stderr, and the exit status that says when."""

import resource
import socket
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.models import write_card
from tests.support.runs import Ended, Start, balance, read_jsonl


def refused(done: Ended, *said: str) -> None:
    """The run was refused before its first frame, in one line that says all of `said`."""
    assert done.status == 2, done
    assert len(done.errors) == 1, done.stderr
    for part in said:
        assert part in done.errors[0]
    # What may stand beside it is how far the run had come; nothing that alarms.
    quiet = (
        "results are published at ",
        "waiting for ",
        "detector: ",
        "emotion model: ",
        "no screen: ",
        "works for the broker ",
    )
    rest = [line for line in done.stderr if line not in done.errors]
    assert all(any(part in line for part in quiet) for line in rest), rest
    assert done.stdout == ""


# ------------------------------------------------------------------ known before any process starts

WEB = ["--source", "demo", "--display", "web", "--set"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "nowhere.mp4"], ["nowhere.mp4", "no such file or folder"]),
        (["--sorce", "demo"], ["--sorce", "did you mean --source?"]),
        (
            [*WEB, "web.host=0.0.0.0"],
            ["web.host", "web.token", "secrets.token_urlsafe"],
        ),
        ([*WEB, "web.host=here"], ["web.host", "'here'", "by number"]),
        ([*WEB, "web.token=short"], ["web.token", "16", "found 5"]),
        ([*WEB, "web.key=k.pem"], ["web.certificate", "both or neither"]),
        (["--display", "window"], ["display.mode", "DISPLAY is not set", "--display none"]),
        (["--set", "detect.worker=2"], ["detect.worker", "did you mean detect.workers?"]),
        (["--set", "detect.workers=two"], ["detect.workers", "a whole number", "'two'"]),
        (["--set", "classify.model=nowhere.onnx"], ["nowhere.onnx", "no emotion model"]),
        (
            ["--set", "classify.labels=consensus"],
            ["classify.labels", "fer2013 alone", "classify.labels=fer2013"],
        ),
        (["--set", "detect.model=nowhere.onnx"], ["nowhere.onnx", "detect.model", "yunet, haar"]),
        (["--broker", "tcp://192.168.0.1:5555"], ["192.168.0.1", "needs keys"]),
        (["--only", "detect", "--broker", "tcp://0.0.0.0:5555"], ["0.0.0.0", "needs keys"]),
        (["--only", "detekt", "--broker", "tcp://127.0.0.1:5555"], ["did you mean detect?"]),
        (["--only", "detect"], ["--broker"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_what_is_wrong_at_once(start: Start, quick: list[str], arguments: list[str], said: list[str]) -> None:
    refused(start(*quick, *arguments).end(), *said)


def test_settings_of_a_file(start: Start, tmp_path: Path) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text("[detect]\nmax_sid = 100\n")
    refused(start("--config", settings).end(), "mine.toml", "max_sid", "max_side")
    settings.write_text("[capture]\nfile_window = 'big'\n")
    refused(start("--config", settings).end(), "mine.toml", "capture.file_window", "a whole number", "'big'")


def test_a_model_without_card(start: Start, quick: list[str], model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lonely.onnx"
    copy.write_bytes(model.read_bytes())
    refused(start(*quick, "--set", f"classify.model={copy}").end(), "lonely.onnx", "has no card")


def test_an_address_in_use(start: Start, quick: list[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        refused(start(*quick, "--source", "demo", "--broker", address).end(), address, "in use")


# -------------------------------------------------------------------- known to the process that opens it


def text_as_video(folder: Path) -> Path:
    path = folder / "letter.mp4"
    path.write_text("Dear all,\nthis is no video.\n" * 100)
    return path


def empty_video(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def empty_folder(folder: Path) -> Path:
    path = folder / "nothing"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (text_as_video, "letter.mp4"),
        (empty_video, "empty.mp4"),
        (empty_folder, "no pictures in it"),
        (lambda folder: 7, "camera"),
        (lambda folder: "http://127.0.0.1:9/video", "127.0.0.1:9"),
    ],
    ids=["text", "empty", "folder", "camera", "stream"],
)
def test_a_source_that_does_not_open(
    start: Start, quick: list[str], tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    refused(start(*quick, "--source", make(tmp_path)).end(), said)


def test_a_broken_detector(start: Start, quick: list[str], tmp_path: Path) -> None:
    path = tmp_path / "face_detection_yunet.onnx"
    path.write_bytes(b"no network " * 1000)
    done = start(*quick, "--source", "demo", "--set", f"detect.model={path}").end()
    refused(done, "face_detection_yunet.onnx", "detect.model", "not an ONNX model")


@pytest.mark.parametrize(("option", "name"), [("--results", "missing/r.jsonl"), ("--record", "file/v.mkv")])
def test_an_output_that_cannot_be_written(
    start: Start, quick: list[str], clip: Path, tmp_path: Path, option: str, name: str
) -> None:
    (tmp_path / "file").touch()
    refused(start(*quick, "--source", clip, option, tmp_path / name).end(), name, "cannot be written")


def test_a_screen_that_does_not_answer(start: Start, quick: list[str], clip: Path) -> None:
    done = start(*quick, "--source", clip, "--display", "window", DISPLAY=":9999").end()
    refused(done, "cannot open a window on :9999")


def test_a_model_that_is_none(start: Start, quick: list[str], clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network " * 1000)
    write_card(broken)
    done = start(*quick, "--source", clip, "--set", f"classify.model={broken}").end()
    refused(done, "broken.onnx", "not an ONNX model")


@pytest.mark.long
def test_a_model_of_another_shape(start: Start, quick: list[str], clip: Path, models: Path) -> None:
    eight = models / "eight.onnx"
    done = start(*quick, "--source", clip, "--set", f"classify.model={eight}").end()
    refused(done, "eight.onnx", "(faces, 7)", "8]")


# ------------------------------------------------------------------------------- known only on the way


@pytest.mark.long
def test_a_video_that_was_cut_off(start: Start, quick: list[str], tmp_path: Path) -> None:
    """All its frames are there, and then it is said how many are missing."""
    whole, part, results = tmp_path / "whole.avi", tmp_path / "part.avi", tmp_path / "r.jsonl"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    noise = np.random.default_rng(1)
    for _ in range(100):
        writer.write(noise.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    data = whole.read_bytes()
    part.write_bytes(data[: len(data) * 6 // 10])

    done = start(*quick, "--source", part, "--results", results).end()
    records = read_jsonl(results)
    assert done.status == 1
    assert 50 <= len(records) <= 65
    assert f"part.avi: {balance(len(records), len(records))}" in done.stdout
    said = [line for line in done.stderr if "cut off" in line]
    assert len(said) == 1 and f"{100 - len(records)} of 100 frames are missing" in said[0]


@pytest.mark.long
def test_an_output_that_fails_on_the_way(start: Start, quick: list[str], clip: Path, tmp_path: Path) -> None:
    """A full disk: told once, not tried again, and what was written before is whole."""
    results = tmp_path / "r.jsonl"
    run = start(*quick, "--source", clip, "--set", "capture.pace_fps=25", "--results", results)
    run.until_records(results, 5)
    limit = results.stat().st_size + 5000
    resource.prlimit(run.pid("display"), resource.RLIMIT_FSIZE, (limit, limit))
    done = run.end()
    assert done.status == 1
    assert done.errors == [f"error: results {results}: cannot be written any more: File too large"]
    records = read_jsonl(results)
    assert [record["frame"] for record in records] == list(range(len(records)))
    assert results.stat().st_size <= limit
