"""Processes of a run are killed or hang: a file loses nothing and has nothing twice, a camera goes on."""

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import CLIP_FRAMES, Run, Start, balance, read_jsonl, same_but_for_time, video_facts
from tools.faults import SIGNALS, TARGETS, Arrivals, Blow, Case, judge

PACE = ["--set", "capture.pace_fps=20"]
BEGUN = 5
"""Records after which the first process is struck."""

GENEROUS_S = 20.0
"""Without a result of a camera. Promised are 5 s, on a machine that does nothing else."""


def kill_in_turn(run: Run, results: Path, groups: Sequence[Sequence[str]], frames: int) -> None:
    """Kill the processes of each group at once, and go on to the next group after so many more records."""
    run.until_records(results, BEGUN)
    for names in groups:
        written = results.read_bytes().count(b"\n")
        struck = {name: run.pid(name) for name in names}
        for pid in struck.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in struck.items():
            run.line(rf"{name} died \(signal SIGKILL\); it is started again")
            run.until(lambda name=name, pid=pid: bool(set(run.pids(name)) - {pid}))
        run.until_records(results, min(written + frames, CLIP_FRAMES))


def test_each_process_is_killed_and_one_hangs(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    # The only detector: beside another one the run might be over before the one that hangs is missed.
    alone = ["--set", "detect.workers=1", "--set", "broker.peer_timeout_s=5"]
    run = start(*quick, *PACE, *alone, "--source", clip, "--results", results)
    kill_in_turn(run, results, [[name] for name in TARGETS], frames=8)
    os.kill(run.pid("detect-1"), signal.SIGSTOP)
    done = run.end()
    assert done.status == 0, done.stderr
    assert any("detect-1 timed out: silent" in line for line in done.stderr)
    same_but_for_time(read_jsonl(results), undisturbed)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout


def test_two_processes_are_killed_at_once(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The pairs whose recoveries meet."""
    results = tmp_path / "r.jsonl"
    run = start(*quick, *PACE, "--source", clip, "--results", results)
    pairs = [("broker", "display"), ("capture-1", "broker"), ("classify-1", "detect-1")]
    kill_in_turn(run, results, pairs, frames=12)
    done = run.end()
    assert done.status == 0, done.stderr
    same_but_for_time(read_jsonl(results), undisturbed)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout


@pytest.mark.parametrize("blow", ["kill", "stop"])
def test_each_process_dies_or_hangs_while_a_camera_is_on(
    start: Start, quick: list[str], tmp_path: Path, blow: Blow
) -> None:
    """Every frame has one outcome, results are back soon, and nothing tells the password of the address."""
    results = tmp_path / "results.jsonl"
    with MjpegCamera() as camera, Arrivals(results) as arrivals:
        run = start(*quick, "--source", camera.url, "--results", results, "--record", tmp_path / "video.mkv")
        run.until_records(results, 10)
        for target in TARGETS:
            struck = run.pid(target)
            struck_s = time.monotonic()
            os.kill(struck, SIGNALS[blow])
            run.until(lambda struck=struck, target=target: struck not in run.pids(target))
            run.until(lambda struck_s=struck_s: arrivals.back_since(struck_s + 0.5))
            assert arrivals.longest_gap_s(struck_s) < GENEROUS_S, target
            run.pid(target)
        run.signal(signal.SIGINT)
        done = run.end()
    outcome = judge(Case("live", blow, TARGETS), done, tmp_path, 0.0, [])
    assert (outcome.problems, outcome.lost, outcome.duplicated) == ([], 0, 0)
    assert outcome.captured > 0
    assert video_facts(tmp_path / "video.mkv")[1:] == (480, 270)
    assert not re.search("secret", "\n".join([*done.stderr, done.stdout, results.read_text()]))
