"""Four cameras, far too few cores: latency stays bounded, drops are counted, each source has its share."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Start, balance, read_jsonl
from tools.overload import CAMERAS, FPS, evenness, overload, problems, shares

SECONDS = 15.0
STEPS_MS = 4000.0
"""A machine that does much else takes long over its steps; without bounds frames would wait for longer."""


@pytest.mark.long
def test_four_cameras_on_two_cores(start: Start, quick: list[str], tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    with ExitStack() as stack:
        cameras = [stack.enter_context(MjpegCamera(FPS, faces=4, size=(640, 480))) for _ in range(CAMERAS)]
        sources = [word for camera in cameras for word in ("--source", camera.url)]
        done = overload(start(*quick, *sources, "--results", results), results, SECONDS)
    assert done.status == 130
    assert problems(shares(read_jsonl(results)), done.stdout, STEPS_MS) == []


def records(source: str, *outcomes: Any) -> list[dict[str, Any]]:
    """A record a frame: a latency in ms, or the reason why it was dropped."""
    return [
        {"source": source, "frame": number, "time_s": number / FPS}
        | ({"status": "dropped", "reason": it} if isinstance(it, str) else {"status": "ok", "latency_ms": it})
        for number, it in enumerate(outcomes)
    ]


def test_what_is_not_kept_is_noticed() -> None:
    good = [50.0, "superseded", 70.0, "stale"]
    sources = [f"camera-{number}" for number in range(CAMERAS)]
    said = "\n".join(f"{source}: {balance(4, 2, 2)}" for source in sources)
    found = shares([record for source in sources for record in records(source, *good)])
    assert problems(found, said) == []
    assert evenness(found) == 1
    assert (found[0].dropped, found[0].captured_fps) == ({"stale": 1, "superseded": 1}, FPS)

    for bad, complaint in (
        ([50.0, "superseded", 1600.0, "stale"], "a frame took 1600 ms"),
        ([50.0, "superseded", "stale", "stale"], "shares are uneven"),
        ([50.0, 50.0, 50.0, 50.0], "nothing was dropped"),
        ([50.0, "superseded", 70.0], "the balance is"),
    ):
        found = shares([r for s in sources for r in records(s, *(bad if s == "camera-1" else good))])
        assert any(complaint in line for line in problems(found, said))
    with pytest.raises(AssertionError, match="not in order"):
        shares(records("camera", 1.0, 2.0)[1:])
