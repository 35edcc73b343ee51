"""A tiny model, a short clip, and runs that leave nothing behind."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.common.files import PROJECT
from pipeline.config.sources import SourceSpec
from stages.capture.sources.demo import DemoReader
from tests.support.models import BOTH, save_onnx
from tests.support.runs import CLIP_FRAMES, CLIP_SIZE, Start, read_jsonl, starting

TIMEOUT_S = 400
"""Of one test: on a machine that does much else, what takes seconds takes minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: tiny and other have random weights, eight an emotion too many, both two outputs."""
    folder = tmp_path_factory.mktemp("models")
    save_onnx(folder / "tiny.onnx", {"fer2013": 0})
    save_onnx(folder / "other.onnx", {"fer2013": 1})
    save_onnx(folder / "eight.onnx", {"fer2013": 2}, values=8)
    save_onnx(folder / "both.onnx", BOTH)
    return folder


@pytest.fixture(scope="session")
def model(models: Path) -> Path:
    """The model of nearly all runs; it answers the same each time."""
    return models / "tiny.onnx"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two faces: 60 frames of 480×270 at 25 a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    reader = DemoReader(SourceSpec("demo:2", "demo", "demo-2"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        for _ in range(CLIP_FRAMES):
            picture = reader.read()
            assert picture is not None and picture.image is not None
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.image[::2, ::2].copy(), "bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def quick(model: Path) -> list[str]:
    """Options of a run that is not about detector or model: Haar in large steps."""
    settings = {
        "classify.model": model,
        "detect.model": "haar",
        "detect.haar_scale": 1.3,
        "detect.workers": 2,
        "display.mode": "none",
    }
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="session")
def environment(state_home: Path) -> dict[str, str]:
    """Nothing of the machine's screen or of the user's decides a test."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "PYTHONPATH", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return kept | {"XDG_STATE_HOME": str(state_home)}


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Start runs, as `starting` says."""
    with starting(environment) as start:
        yield start


@pytest.fixture
def stepper(tmp_path: Path) -> Path:
    """A library that gives those who load it another time of day."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or no Linux, for the library that steps the clock")
    library, source = tmp_path / "clock_step.so", Path(__file__).with_name("clock_step.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


@pytest.fixture(scope="session")
def undisturbed(
    model: Path, clip: Path, quick: list[str], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The records of the clip in a run to which nothing happens."""
    results = tmp_path_factory.mktemp("undisturbed") / "clip.jsonl"
    command = [sys.executable, "run.py", *quick, "--source", str(clip), "--results", str(results)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return read_jsonl(results)
