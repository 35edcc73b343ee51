"""Live cameras: what is counted, and one real run."""

import sys
from pathlib import Path

import msgspec
import pytest

from bench.against import Checkout, Record
from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from tests.support.models import save_onnx
from tools import live
from tools.live import WARM_UP_S, LiveRun, Scene, describe, row, run_live, summed


def records(source: str, *outcomes: float | str, begin_s: float = 1.0) -> list[Record]:
    """A record a second: the latency in ms of a frame with two faces, or the reason of a drop."""
    faces = [msgspec.Raw(b"{}")] * 2
    return [
        Record(source, begin_s + second, "dropped", 0.0, [], outcome)
        if isinstance(outcome, str)
        else Record(source, begin_s + second, "ok", outcome, faces)
        for second, outcome in enumerate(outcomes)
    ]


def test_warm_up_and_end_are_left_out() -> None:
    warm_up = [900.0] * int(WARM_UP_S)
    first = records("a", *warm_up, 20.0, "superseded", 30.0, 40.0, 800.0)
    second = records("b", *warm_up, 21.0, "stale", "superseded", 41.0, 800.0, begin_s=7.5)
    run = summed([*first, *second], cameras=2, seconds=4.0)
    assert sorted(run.latency_ms) == [20.0, 21.0, 30.0, 40.0, 41.0]
    assert (run.captured, run.captured_fps, run.done_fps) == (8, 2.0, 1.25)
    assert run.faces_per_frame == 2.0
    assert run.dropped == {"stale": 1, "superseded": 2}
    assert run.dropped_percent == 37.5


def test_a_camera_without_frames_is_an_error() -> None:
    count = int(WARM_UP_S) + 4
    found = [*records("a", *[20.0] * count), *records("b", *["stale"] * count)]
    with pytest.raises(UserError, match="expected frames of 2 cameras, found"):
        summed(found, cameras=2, seconds=4.0)
    assert summed(records("a", *[20.0] * count), cameras=1, seconds=4.0).captured == 4


def test_figures_are_medians() -> None:
    runs = [
        LiveRun(30.0, fps, 4.0, [latency] * 10, {"stale": 1}, 100)
        for fps, latency in ((29.0, 20.0), (28.0, 30.0), (30.0, 25.0))
    ]
    figures = describe(Scene(1, 4), Checkout("here", Path("nowhere"), Path()), runs)
    assert (figures["done_fps"], figures["dropped_percent"], figures["dropped"]) == (29.0, 1.0, {"stale": 3})
    assert row(figures)[0] == "1 camera with 4 faces"
    assert row(figures)[4:] == ["4.0", "25, 25, 25", "1.0 %"]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_cameras_through_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WARM_UP_S", 1.0)
    model = save_onnx(tmp_path / "tiny.onnx", {"fer2013": 0})
    settings = ("detect.model=haar", "detect.haar_scale=1.5", f"classify.model={model}")
    run = run_live(Checkout("this", PROJECT, Path(sys.executable), settings), Scene(2, 1), 2.0, tmp_path)
    assert run.captured == len(run.latency_ms) + sum(run.dropped.values())
    assert run.done_fps > 0
