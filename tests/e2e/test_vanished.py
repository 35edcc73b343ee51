"""A file that vanishes while it is played, beside another that does not."""

import os
import shutil
from pathlib import Path

import cv2
import pytest

from tests.support.media import noise, write_clip
from tests.support.runs import CLIP_FRAMES, Run, Start, balance, read_jsonl

FRAMES = 60


def playing(start: Start, quick: list[str], folder: Path, *sources: Path) -> Run:
    pace = ["--set", "capture.pace_fps=15"]
    words = [word for source in sources for word in ("--source", str(source))]
    run = start(*quick, *pace, *words, "--results", folder / "r.jsonl")
    run.until_records(folder / "r.jsonl", 20)
    return run


@pytest.fixture
def going(tmp_path: Path) -> Path:
    """A video, too large for what a reader holds of it."""
    return write_clip(tmp_path / "going.mp4", [noise(n, 320, 240) for n in range(FRAMES)])


@pytest.mark.long
def test_a_video_that_is_cut_while_it_plays(
    start: Start, quick: list[str], tmp_path: Path, clip: Path, going: Path
) -> None:
    run = playing(start, quick, tmp_path, going, clip)
    os.truncate(going, 1000)
    done = run.end()
    assert done.status == 1
    assert any("going.mp4: " in line and "missing" in line for line in done.stderr), done.stderr
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    frames = [r["frame"] for r in read_jsonl(tmp_path / "r.jsonl") if r["source"] == "going.mp4"]
    assert 0 < len(frames) < FRAMES
    assert frames == list(range(len(frames)))


@pytest.mark.long
def test_a_video_that_is_removed_while_it_plays(
    start: Start, quick: list[str], tmp_path: Path, going: Path
) -> None:
    """It is open: the system keeps it until its end."""
    run = playing(start, quick, tmp_path, going)
    going.unlink()
    done = run.end()
    assert done.status == 0
    assert f"going.mp4: {balance(FRAMES, FRAMES)}" in done.stdout


@pytest.mark.long
def test_a_folder_that_is_removed_while_it_plays(
    start: Start, quick: list[str], tmp_path: Path, clip: Path
) -> None:
    """Each picture that is not there any more is told as such; what else plays goes on."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(FRAMES):
        assert cv2.imwrite(str(folder / f"{number}.png"), noise(number, 64, 48))
    run = playing(start, quick, tmp_path, folder, clip)
    shutil.rmtree(folder)
    done = run.end()
    assert done.status == 0
    records = [r for r in read_jsonl(tmp_path / "r.jsonl") if r["source"] == "pictures"]
    assert [r["frame"] for r in records] == list(range(FRAMES))
    lost = [r for r in records if r["status"] == "failed"]
    assert lost and {r["reason"] for r in lost} == {"unreadable: No such file or directory"}
    assert any("frames failed; the results say why" in line for line in done.stderr)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
