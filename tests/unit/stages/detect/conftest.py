"""The project's YuNet, and the OpenCV Zoo's."""

from pathlib import Path

import pytest

from pipeline.common.files import PROJECT
from stages.detect.spec import YUNET, DetectSettings
from stages.detect.yunet import YuNetDetector


@pytest.fixture(scope="session")
def yunet_path() -> Path:
    return PROJECT / YUNET


@pytest.fixture(scope="session")
def zoo_path(shared: Path) -> Path:
    (path,) = (shared / "models").glob("face_detection_yunet*.onnx")
    return path


@pytest.fixture(scope="session")
def yunet(yunet_path: Path) -> YuNetDetector:
    return YuNetDetector(DetectSettings(), yunet_path)
