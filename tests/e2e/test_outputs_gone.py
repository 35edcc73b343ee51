"""Outputs that others remove, move or cut while they are written, and those of an earlier run."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl, video_facts

pytestmark = pytest.mark.long

PACED = ["--set", "capture.pace_fps=20", "--set", "capture.repeat=0"]


def removed(path: Path) -> None:
    path.unlink()


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def replaced(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.write_text("of another program")


def cut(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("option", "name", "act", "said"),
    [
        ("--results", "r.jsonl", removed, "it has been removed"),
        ("--results", "r.csv", folder_removed, "it has been removed"),
        ("--results", "r.jsonl", replaced, "another file has taken its place"),
        ("--results", "r.jsonl", cut, "another program has cut it"),
        ("--record", "v.mkv", folder_removed, "it has been removed"),
    ],
)
def test_an_output_that_goes_away_ends_the_run(
    start: Start,
    quick: list[str],
    clip: Path,
    tmp_path: Path,
    option: str,
    name: str,
    act: Callable[[Path], None],
    said: str,
) -> None:
    """What it would write from now on nobody would find."""
    path = tmp_path / "out" / name
    path.parent.mkdir()
    run = start(*quick, *PACED, "--source", clip, option, path)
    run.until(lambda: path.exists() and path.stat().st_size > 5000)
    act(path)
    done = run.end()
    assert done.status == 1
    what = "results" if option == "--results" else "recording"
    assert done.errors == [f"error: {what} {path}: cannot be written any more: {said}"]


def test_a_log_that_is_moved_away_is_gone_on_with(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    log, results = tmp_path / "run.log", tmp_path / "r.jsonl"
    options = ["--set", f"log.file={log}", "--set", "log.status_interval_s=0.3"]
    run = start(*quick, *options, *PACED, "--source", clip, "--results", results)
    run.until_records(results, 10)
    log.rename(tmp_path / "run.log.1")  # as logrotate does
    run.until(lambda: log.exists() and "frames/s: " in log.read_text())
    run.signal(signal.SIGINT)
    done = run.end()
    assert done.status == 130 and done.errors == []
    assert (tmp_path / "run.log.1").read_text().count("\n") + log.read_text().count("\n") == len(done.stderr)


def test_a_run_that_is_refused_leaves_what_an_earlier_one_has_written(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    outputs = ["--results", tmp_path / "r.jsonl", "--record", tmp_path / "v.mkv"]
    assert start(*quick, "--source", clip, *outputs).end().status == 0
    earlier = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert earlier.keys() == {"r.jsonl", "v.mkv"}
    broken = tmp_path / "letter.mp4"
    broken.write_text("this is no video\n" * 100)
    done = start(*quick, "--source", broken, *outputs).end()
    broken.unlink()
    assert done.status == 2 and len(done.errors) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier


def test_a_display_killed_before_the_first_frame_costs_an_earlier_run_nothing_and_this_one_neither(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    """Once this run has begun nothing of the earlier one is left: no record, no part of its video."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    outputs = ["--results", results, "--record", video]
    assert start(*quick, "--source", "demo", "--set", "capture.max_frames=90", *outputs).end().status == 0
    shutil.copyfile(video, tmp_path / "v.part2.mkv")
    earlier = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = start(*quick, "--set", "log.status_interval_s=0.5", "--source", clip, *outputs)
    held = run.pid("classify-1")
    os.kill(held, signal.SIGSTOP)  # it is still starting: no frame is asked for before it goes on
    run.line("waiting for classify-1$")  # all others are there
    for _ in range(2):
        pid = run.pid("display")
        os.kill(pid, signal.SIGKILL)
        run.until(lambda pid=pid: bool(set(run.pids("display")) - {pid}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier
    os.kill(held, signal.SIGCONT)
    done = run.end()
    assert done.status == 0
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    assert [record["source"] for record in read_jsonl(results)] == ["clip.mp4"] * CLIP_FRAMES
    assert {path.name for path in tmp_path.iterdir()} == {"r.jsonl", "v.mkv"}
    assert video_facts(video)[0] == CLIP_FRAMES
