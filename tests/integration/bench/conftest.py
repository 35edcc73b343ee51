"""What the benchmark's tests share: a tiny model that is a real one, and a checkout that is none."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT
from pipeline.config.schema import PipelineSettings
from stages.classify.spec import ClassifySettings
from stages.detect.spec import DetectSettings
from tests.support.checkouts import make_fake
from tests.support.models import BOTH, save_onnx, write_card

_MAKE_KERAS = """
import sys
from pathlib import Path
from tests.support.checkouts import make_fake
from tests.support.models import save_keras
save_keras(Path(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an untrained network: it takes faces and gives seven probabilities."""
    path = save_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", {"fer2013": 0})
    return write_card(path, multiply_adds=112)


@pytest.fixture(scope="session")
def model_of_both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a network with an output for each set of labels: see tests/support/models.py."""
    return save_onnx(tmp_path_factory.mktemp("model") / "both.onnx", BOTH)


@pytest.fixture(scope="session")
def keras_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model as `model_of_both`, as a Keras file; TensorFlow stays out of this process."""
    path = tmp_path_factory.mktemp("model") / "both.keras"
    command = [sys.executable, "-c", _MAKE_KERAS, str(path)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, timeout=300)
    return write_card(path, outputs=list(BOTH))


@pytest.fixture
def settings(tiny_model: Path) -> PipelineSettings:
    """Return settings with the tiny model and Haar."""
    classify = ClassifySettings(model=str(tiny_model))
    return PipelineSettings(classify, DetectSettings(model="haar", workers=1))


@pytest.fixture
def unloaded_settings(tmp_path: Path) -> PipelineSettings:
    """Return settings whose model has a card and can't be loaded: enough for what is checked before."""
    path = tmp_path / "model.keras"
    path.write_bytes(b"no network")
    write_card(path)
    return PipelineSettings(ClassifySettings(model=str(path)), DetectSettings(model="haar"))


@pytest.fixture
def fake_checkout(tmp_path: Path) -> Path:
    """Return a folder whose run.py only writes records: see tests/support/checkouts.py."""
    return make_fake(tmp_path / "fake")
