"""Four cameras, far too few cores: latency stays bounded, drops are counted, each source has its share."""

from contextlib import ExitStack
from pathlib import Path

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Start, read_jsonl
from tools.overload import CAMERAS, FPS, overload, problems, shares

SECONDS = 15.0
STEPS_MS = 4000.0
"""A machine that does much else takes long over its steps; without bounds frames would wait for longer."""


def test_four_cameras_on_two_cores(start: Start, quick: list[str], tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    with ExitStack() as stack:
        cameras = [stack.enter_context(MjpegCamera(FPS, faces=4, size=(640, 480))) for _ in range(CAMERAS)]
        sources = [word for camera in cameras for word in ("--source", camera.url)]
        done = overload(start(*quick, *sources, "--results", results), results, SECONDS)
    assert done.status == 130
    assert problems(shares(read_jsonl(results)), done.stdout, STEPS_MS) == []
