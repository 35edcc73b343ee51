"""Which detector `detect.model` names."""

import shutil
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.detect.spec import YUNET, resolve_model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the project's models."""
    (tmp_path / "models").mkdir()
    for suffix in (".onnx", ".json"):
        shutil.copy(PROJECT / YUNET.with_suffix(suffix), tmp_path / "models")
    return tmp_path


def refused(model: str, root: Path, *said: str) -> None:
    with pytest.raises(UserError) as told:
        resolve_model(model, root)
    message = str(told.value)
    assert "\n" not in message
    assert all(text in message for text in ("detect.model", *said)), message


def test_haar_needs_no_file(tmp_path: Path) -> None:
    assert resolve_model("haar", tmp_path) == ("haar", None)


def test_yunet_is_the_projects_own(root: Path) -> None:
    assert resolve_model("yunet", root) == ("yunet", root / YUNET)
    assert resolve_model("yunet") == ("yunet", PROJECT / YUNET)


def test_own_yunet_must_match_its_card(root: Path) -> None:
    model = root / YUNET
    model.write_bytes(model.read_bytes()[:-1])
    refused("yunet", root, str(model), "sha256", "expected", "found")


@pytest.mark.parametrize("suffix", [".onnx", ".json"])
def test_own_yunet_or_its_card_missing(root: Path, suffix: str) -> None:
    gone = (root / YUNET).with_suffix(suffix)
    gone.unlink()
    refused("yunet", root, str(gone), "No such file")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}", b'{"sha256": 1}'])
def test_damaged_card(root: Path, content: bytes) -> None:
    card = (root / YUNET).with_suffix(".json")
    card.write_bytes(content)
    refused("yunet", root, str(card), "not the card of a detector")


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.touch()
    assert resolve_model(str(path), tmp_path) == ("yunet", path)


@pytest.mark.parametrize("model", ["", "yunett", "no/such.onnx", "x" * 5000])
def test_a_path_that_is_not_there(model: str, root: Path) -> None:
    refused(model, root)
