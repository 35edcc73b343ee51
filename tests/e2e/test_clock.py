"""The clock of the system is set while a run is under way, by a day and an hour, back and forth."""

import signal
from pathlib import Path
from typing import Any

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl, same_but_for_time

HOUR_S = 3600
LONGEST_MS = 60_000
"""Far more than anything takes, far less than the steps of the clock."""


def test_a_clock_that_is_set_changes_nothing(
    start: Start,
    quick: list[str],
    clip: Path,
    stepper: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    clock, results = tmp_path / "clock", tmp_path / "r.jsonl"
    clock.write_text("0")
    pace = ["--set", "capture.pace_fps=4", "--set", "log.status_interval_s=0.5"]
    pace += ["--set", "broker.peer_timeout_s=30"]  # no other load on the machine decides this test

    def written() -> int:
        return results.read_bytes().count(b'"source":"clip.mp4"') if results.exists() else 0

    with MjpegCamera() as camera:
        run = start(
            *quick, *pace, "--source", clip, "--source", camera.url, "--results", results,
            LD_PRELOAD=str(stepper), CLOCK_STEP=str(clock),
        )  # fmt: skip
        for frames, step in ((10, 25 * HOUR_S), (25, -25 * HOUR_S), (40, 0)):
            run.until(lambda frames=frames: written() >= frames)
            clock.write_text(str(step))
        run.until(lambda: written() == CLIP_FRAMES)
        run.signal(signal.SIGINT)
        done = run.end()
    assert done.status == 130 and done.errors == []
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    assert len({line[:2] for line in done.stderr if "frames/s" in line}) >= 3, "the clock was not set"
    strange = ("died", "hangs", "silent", "given up", "opened again", "did not")
    assert not [line for line in done.stderr if any(word in line for word in strange)]
    records = read_jsonl(results)
    assert all(0 <= record["latency_ms"] < LONGEST_MS for record in records)
    same_but_for_time([r for r in records if r["source"] == "clip.mp4"], undisturbed)
    assert sum(record["status"] == "ok" for record in records if record["source"] != "clip.mp4") > 20
