"""YuNet's file and real frames."""

from pathlib import Path

import pytest

from pipeline.settings import DetectSettings
from stages.detect.yunet import YuNetDetector


@pytest.fixture(scope="session")
def yunet_path(shared: Path) -> Path:
    (path,) = (shared / "models").glob("face_detection_yunet*.onnx")
    return path


@pytest.fixture(scope="session")
def yunet(yunet_path: Path) -> YuNetDetector:
    return YuNetDetector(yunet_path, DetectSettings())
