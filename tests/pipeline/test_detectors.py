"""Which detector `detect.model` names."""

from pathlib import Path

import pytest

from pipeline.detectors import GET_YUNET, resolve_model
from pipeline.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path


def add(root: Path, name: str) -> Path:
    path = root / "models" / name
    path.touch()
    return path


def test_haar_needs_no_file(root: Path) -> None:
    add(root, "face_detection_yunet_2026may.onnx")
    assert resolve_model("haar", root) == ("haar", None, "")


def test_auto_takes_the_newest_yunet(root: Path) -> None:
    add(root, "face_detection_yunet_2023mar.onnx")
    newest = add(root, "face_detection_yunet_2026may.onnx")
    assert resolve_model("auto", root) == ("yunet", newest, "")
    assert resolve_model("yunet", root) == ("yunet", newest, "")


def test_auto_falls_back_to_haar_and_says_so(root: Path) -> None:
    choice = resolve_model("auto", root)
    assert choice.kind == "haar"
    assert GET_YUNET in choice.said


def test_yunet_that_is_not_there(root: Path) -> None:
    with pytest.raises(UserError, match="download yunet"):
        resolve_model("yunet", root)


def test_a_path(root: Path) -> None:
    path = add(root, "mine.onnx")
    assert resolve_model(str(path), root) == ("yunet", path, "")


@pytest.mark.parametrize("model", ["", "yunett", "no/such.onnx", "x" * 5000])
def test_a_path_that_is_not_there(model: str, root: Path) -> None:
    with pytest.raises(UserError) as told:
        resolve_model(model, root)
    assert "\n" not in str(told.value)
