"""A run that goes on: nothing grows, in a minute at least."""

from pathlib import Path

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Start
from tools.soak import findings, plot, watch

SECONDS = 40.0
MB = 1_000_000
A_LEAK = 200 * MB
"""Frames of 0.4 MB, 35 a second, that nobody let go would be 800 MB a minute; what settles in one is less."""

ENDLESS = ["--set", "capture.repeat=0", "--set", "capture.pace_fps=10", "--source", "demo:2"]


def test_a_minute_of_a_camera_and_a_file(start: Start, quick: list[str], tmp_path: Path) -> None:
    """Too short for the memory of libraries to settle: files and threads must be flat, memory nearly."""
    results = tmp_path / "r.jsonl"
    with MjpegCamera() as camera:
        run = start(*quick, *ENDLESS, "--source", camera.url, "--results", results)
        samples, latencies = watch(run, results, SECONDS)
        run.kill()
    found = {(one.process, one.what): one for one in findings(samples, latencies, SECONDS / 3)}
    names = {"parent", "broker", "display", "detect-1", "detect-2", "classify-1", "capture-1", "capture-2"}
    assert {process for process, _ in found} == {*names, "all"}
    for name in names:
        assert not found[name, "files"].grows, found[name, "files"]
        assert not found[name, "threads"].grows, found[name, "threads"]
        assert not found[name, "rss_bytes"].slope.exceeds(A_LEAK), found[name, "rss_bytes"]
    plot(samples, latencies, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000
