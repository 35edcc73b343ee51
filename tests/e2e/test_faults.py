"""The matrix in its short form: each process once, and the pairs whose recoveries meet."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Start
from tools.faults.arrivals import Arrivals
from tools.faults.cases import TARGETS, Blow, Case
from tools.faults.drive import SIGNALS, run_case, undisturbed
from tools.faults.outcome import Outcome, judge

pytestmark = pytest.mark.long

GENEROUS_S = 20.0
"""Promised are 5 s, on a machine that does nothing else."""

PAIRS = [("broker", "display"), ("capture-1", "broker"), ("classify-1", "detect-1")]


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    """What an undisturbed run of the file gives; filled by the first test that needs it."""
    return []


@pytest.mark.parametrize("targets", PAIRS, ids="+".join)
def test_two_at_once_in_a_file(
    start: Start, quick: list[str], tmp_path: Path, targets: tuple[str, ...], expected: list[dict[str, Any]]
) -> None:
    if not expected:
        expected += undisturbed(start, quick, tmp_path)
    case = Case("file", "kill", targets)
    assert_kept(run_case(case, start, quick, tmp_path, random.Random(1), expected))


@pytest.mark.parametrize("blow", ["kill", "stop"])
def test_one_after_the_other_while_a_camera_is_on(
    start: Start, quick: list[str], tmp_path: Path, blow: Blow
) -> None:
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
    case = Case("live", blow, TARGETS)
    outcome = judge(case, done, tmp_path, 0.0, [])
    assert_kept(outcome)
    assert outcome.captured > 0


def assert_kept(outcome: Outcome) -> None:
    assert outcome.problems == []
    assert (outcome.lost, outcome.duplicated) == (0, 0)
