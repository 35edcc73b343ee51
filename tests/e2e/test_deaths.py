"""Processes are killed in the middle of a file: nothing is lost, and nothing comes twice."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import CLIP_FRAMES, Run, Start, balance, read_jsonl, same_but_for_time


def in_the_middle(start: Start, quick: list[str], clip: Path, results: Path, *options: str) -> Run:
    """A run that has begun and is not near its end: it is paced."""
    pace = ["--set", "capture.pace_fps=20"]
    run = start(*quick, *pace, *options, "--source", clip, "--results", results)
    run.until_records(results, 10)
    return run


@pytest.mark.long
@pytest.mark.parametrize("name", ["detect-1", "classify-1", "display", "capture-1", "broker"])
def test_a_process_is_killed(
    start: Start,
    quick: list[str],
    clip: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
    name: str,
) -> None:
    results = tmp_path / "r.jsonl"
    run = in_the_middle(start, quick, clip, results)
    os.kill(run.pid(name), signal.SIGKILL)
    done = run.end()
    assert done.status == 0, done.stderr
    assert [line for line in done.stderr if f"{name} died (signal SIGKILL); it is started again now" in line]
    same_but_for_time(read_jsonl(results), undisturbed)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout


@pytest.mark.long
def test_a_process_that_hangs_is_replaced(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    # The only detector: beside another one the run may be over before it is missed.
    alone = ["--set", "detect.workers=1", "--set", "broker.peer_timeout_s=5"]
    run = in_the_middle(start, quick, clip, results, *alone)
    os.kill(run.pid("detect-1"), signal.SIGSTOP)
    done = run.end()
    assert done.status == 0
    print("\n".join(done.stderr))
    assert any("detect-1 has been silent" in line for line in done.stderr)
    assert any("detect-1 died (signal SIGKILL)" in line for line in done.stderr)
    same_but_for_time(read_jsonl(results), undisturbed)


def test_a_capture_that_dies_again_and_again_ends_its_source(
    start: Start, quick: list[str], tmp_path: Path
) -> None:
    """Before the first frame that ends the run; no stage is waited for in vain."""
    run = start(*quick, "--source", "demo", "--set", "run.max_restarts=2")
    run.until(lambda: bool(run.pids("capture-1")))
    first = run.pids("capture-1")[0]
    os.kill(first, signal.SIGKILL)
    run.until(lambda: any(pid != first for pid in run.pids("capture-1")))
    os.kill(run.pid("capture-1"), signal.SIGKILL)
    done = run.end()
    assert done.status == 1
    assert done.errors == ["error: capture died 2 times without progress"]
