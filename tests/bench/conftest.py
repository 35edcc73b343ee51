"""What the benchmark's tests share: a tiny model that is a real one, with its card."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.emotions import EMOTIONS, FACE_SIZE
from pipeline.settings import ClassifySettings, DetectSettings, PipelineSettings
from tests.conftest import PROJECT
from tests.support.models import BOTH

_MAKE = f"""
import sys, keras
layers = keras.layers
model = keras.Sequential([
    keras.Input(({FACE_SIZE}, {FACE_SIZE}, 1), dtype="uint8"),
    layers.Rescaling(1 / 255), layers.AveragePooling2D(12), layers.Flatten(),
    layers.Dense({len(EMOTIONS)}, activation="softmax"),
])
model.save(sys.argv[1])
"""

_MAKE_BOTH = """
import sys
from pathlib import Path
from tests.support.models import save_keras
save_model(Path(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an untrained network: it takes faces and gives seven probabilities."""
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    _make(_MAKE, path)
    _write_card(path)
    return path


@pytest.fixture(scope="session")
def model_of_both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a network with an output for each set of labels: see tests/outputs.py."""
    path = tmp_path_factory.mktemp("model") / "both.keras"
    _make(_MAKE_BOTH, path)
    _write_card(path, outputs=list(BOTH))
    return path


def _make(script: str, path: Path) -> None:
    """In a process of its own: TensorFlow stays out of the one that runs the tests."""
    command = [sys.executable, "-c", script, str(path)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, timeout=300)


def _write_card(path: Path, **more: object) -> None:
    card = {
        "format": 1,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "labels": list(EMOTIONS),
        "input": {"shape": [FACE_SIZE, FACE_SIZE, 1], "dtype": "uint8"},
        "name": "tiny",
        "multiply_adds": 112,
    }
    path.with_suffix(".json").write_text(json.dumps(card | more))


@pytest.fixture
def settings(tiny_model: Path) -> PipelineSettings:
    """Return settings with the tiny model and the detector that needs no download."""
    classify = ClassifySettings(model=str(tiny_model), batch_sizes=[1, 4])
    return PipelineSettings(classify=classify, detect=DetectSettings(model="haar", workers=1))


@pytest.fixture
def unloaded_settings(tmp_path: Path) -> PipelineSettings:
    """Return settings whose model has a card and can't be loaded: enough for what is checked before."""
    path = tmp_path / "model.keras"
    path.write_bytes(b"no network")
    _write_card(path)
    return PipelineSettings(classify=ClassifySettings(model=str(path)), detect=DetectSettings(model="haar"))
