"""Runs the pipeline and strikes its processes."""

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Run, Start, read_jsonl
from tools.faults.arrivals import Arrivals
from tools.faults.cases import Case
from tools.faults.outcome import Outcome, judge

FILE_FRAMES: Final = 150
FILE_FPS: Final = 25  # slow enough that it is struck in its middle
BEGIN_RECORDS: Final = 20
LATEST_S: Final = 2.5  # of the random moment, after that
AFTERMATH_S: Final = 3.0  # live: how long it is watched once results are back

SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
FILE_OPTIONS: Final = ("--source", "demo:2", "--set", f"capture.max_frames={FILE_FRAMES}")


def undisturbed(start: Start, options: Sequence[object], folder: Path) -> list[dict[str, Any]]:
    """The records of the file to which nothing happens."""
    results = folder / "undisturbed.jsonl"
    run = start(*options, *FILE_OPTIONS, "--results", results)
    assert run.end().status == 0
    return list(read_jsonl(results))


def run_case(
    case: Case,
    start: Start,
    options: Sequence[object],
    folder: Path,
    moment: random.Random,
    expected: list[dict[str, Any]],
) -> Outcome:
    """Run the pipeline in `folder`, strike at a random moment, and judge what is left."""
    outputs = ["--results", folder / "results.jsonl", "--record", folder / "video.mkv"]
    with MjpegCamera() as camera, Arrivals(folder / "results.jsonl") as arrivals:
        if case.kind == "file":
            source = [*FILE_OPTIONS, "--set", f"capture.pace_fps={FILE_FPS}"]
        else:
            source = ["--source", camera.url]
        run = start(*options, *source, *outputs)
        run.until_records(folder / "results.jsonl", BEGIN_RECORDS)
        struck_s = strike(run, case, moment.uniform(0, LATEST_S))
        if case.kind == "live":
            run.until(lambda: arrivals.back_since(struck_s + AFTERMATH_S))
            run.signal(signal.SIGINT)
        done = run.end()
    return judge(case, done, folder, arrivals.longest_gap_s(struck_s), expected)


def strike(run: Run, case: Case, after_s: float) -> float:
    """Strike all targets at once, after a while; return the moment."""
    time.sleep(after_s)  # the random moment, which no event tells
    pids = [run.pid(name) for name in case.targets]
    moment_s = time.monotonic()
    for pid in pids:
        os.kill(pid, SIGNALS[case.blow])
    return moment_s
