"""A tiny model, a short clip, and runs that leave nothing behind."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.sources import SourceSpec
from stages.capture.demo import DemoReader
from tests.outputs import BOTH
from tests.whole.runs import EMOTIONS, PROJECT, Run, read_jsonl

MODEL_SCRIPT = """
import sys
from pathlib import Path
import keras
from keras import layers
from tests.outputs import save_model
for seed, (name, outputs) in enumerate({"tiny": 7, "other": 7, "eight": 8}.items()):
    keras.utils.set_random_seed(seed)
    inside = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(outputs, activation="softmax")]
    model = keras.Sequential([keras.Input((48, 48, 1), dtype="uint8"), *inside])
    model.save(Path(sys.argv[1]) / f"{name}.keras")
save_model(Path(sys.argv[1]) / "both.keras")
"""

CLIP_FRAMES = 60
TIMEOUT_S = 400
"""Of one test: on a machine that does much else, what takes seconds takes minutes."""
CLIP_SIZE = (480, 270)

Start = Callable[..., Run]


def write_card(model: Path, **changed: Any) -> Path:
    """Write the card that fits a model file."""
    card = {
        "format": 1,
        "name": model.stem,
        "file": model.name,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "labels": EMOTIONS,
        "input": {"shape": [48, 48, 1], "dtype": "uint8"},
    }
    model.with_suffix(".json").write_text(json.dumps(card | changed), encoding="utf-8")
    return model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of networks of random weights: tiny and other fit, eight knows an emotion too many.

    both has two outputs, as its card says: see tests/outputs.py.

    They are made in a process of its own: the tests load no TensorFlow.
    """
    folder = tmp_path_factory.mktemp("models")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", MODEL_SCRIPT, str(folder)]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True, timeout=TIMEOUT_S)
    for path in folder.glob("*.keras"):
        write_card(path)
    write_card(folder / "both.keras", outputs=list(BOTH))
    return folder


@pytest.fixture(scope="session")
def model(models: Path) -> Path:
    """The model of nearly all runs; it answers the same each time."""
    return models / "tiny.keras"


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
def yunet(shared: Path) -> Path:
    return next((shared / "models").glob("face_detection_yunet*.onnx"))


@pytest.fixture(scope="session")
def quick(model: Path) -> list[str]:
    """Options of a run that is not about detector or model: Haar, which is always there, in large steps."""
    settings = {
        "classify.model": model,
        "classify.batch_sizes": "1,8",
        "detect.model": "haar",
        "detect.haar_scale": 1.3,
        "detect.workers": 2,
        "display.mode": "none",
    }
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Nothing of the machine's screen or of the user's decides a test."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in names}


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Start runs: `start("--source", …)`; `screen=":7"` gives one a screen.

    `inside`: the words before the command that run it elsewhere, as on another host.
    """
    runs: list[Run] = []
    places: list[Path] = []

    def start_one(*arguments: object, inside: Sequence[str] = (), **variables: str) -> Run:
        places.append(Path(tempfile.mkdtemp(prefix="w-", dir="/tmp" if os.name == "posix" else None)))
        runs.append(Run(places[-1], arguments, environment | variables, inside))
        return runs[-1]

    yield start_one
    for run in runs:
        run.kill()
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


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
