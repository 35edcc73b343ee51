"""What a card says of its model's outputs."""

import json
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import sha256
from pipeline.common.labels import LABEL_SETS
from trainer.card import card_path, identity, read_card


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "emotion.keras"
    path.write_bytes(b"layers and weights")
    return path


@pytest.mark.parametrize("outputs", [LABEL_SETS, ("fer2013",), ("consensus",)])
def test_outputs_that_are_written_are_read(model: Path, outputs: tuple[str, ...]) -> None:
    card_path(model).write_text(json.dumps(identity(model, outputs)))
    assert read_card(model)["outputs"] == list(outputs)


def test_a_card_without_outputs_is_of_fer2013_s_labels_alone(model: Path) -> None:
    card = {key: value for key, value in identity(model).items() if key != "outputs"}
    card_path(model).write_text(json.dumps(card))
    assert read_card(model)["outputs"] == ["fer2013"]


def test_onnx_file_has_a_hash_of_its_own(model: Path) -> None:
    onnx = model.with_suffix(".onnx")
    onnx.write_bytes(b"nodes and weights")
    card = identity(model)
    card_path(model).write_text(json.dumps(card))
    with pytest.raises(
        UserError, match=f"^{onnx}: its card describes no ONNX file; make it with: .* {model}$"
    ):
        read_card(onnx)
    entry = {"file": onnx.name, "sha256": sha256(onnx), "precision": "float32"}
    card_path(model).write_text(json.dumps(card | {"onnx": entry}))
    assert read_card(onnx) == read_card(model)
    onnx.write_bytes(b"other nodes")
    assert read_card(model)
    with pytest.raises(UserError, match=f"^{onnx}: expected sha256 {entry['sha256'][:12]}"):
        read_card(onnx)


@pytest.mark.parametrize(
    "outputs", [[], ["fer2013", "people"], [["fer2013"]], {"fer2013": 1}, "fer2013", None]
)
def test_other_outputs_are_refused(model: Path, outputs: object) -> None:
    card_path(model).write_text(json.dumps(identity(model) | {"outputs": outputs}))
    with pytest.raises(UserError, match="outputs: expected fer2013 and consensus or one of them, found"):
        read_card(model)
