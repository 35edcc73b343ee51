"""The card of a model: what it holds, and which models are refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS, LABEL_SETS
from pipeline.common.model_card import (
    card_path,
    choose_labels,
    find_model,
    new_card,
    read_all_keys,
    read_card,
    read_crop_shape,
    read_model,
)
from tests.support.model_cards import write_model


def test_card_is_read_and_other_keys_are_ignored(tmp_path: Path) -> None:
    card = read_card(write_model(tmp_path, settings={"epochs": 50}))
    assert (card.name, card.parameters, card.multiply_adds) == ("baseline", 555_623, 40_000_000)
    assert card.figures["fer2013"]["top1"] == 0.612
    assert card.outputs == ("fer2013",)  # the default


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, "format: expected 1, found 2"),
        ({"labels": [*EMOTIONS[1:], EMOTIONS[0]]}, "labels: expected"),
        ({"labels": list(EMOTIONS[:6])}, "labels: expected"),
        ({"labels": None}, "missing required field `labels`"),
        *(
            (
                {"input": {"shape": shape, "dtype": "uint8"}},
                r"input.shape: expected \[size, size, 1 or 3\], of",
            )
            for shape in ([64, 48, 1], [48, 48, 2], [48, 48], [8, 8, 1], [1024, 1024, 3], [48, 48, 1, 1], [])
        ),
        ({"input": {"shape": [48, 48, 1], "dtype": "float32"}}, "input.dtype: expected uint8, found float32"),
        ({"outputs": []}, r"outputs: expected fer2013 and consensus or one of them, found \[\]"),
        ({"outputs": ["fer2013", "people"]}, r"outputs: expected .*, found \['fer2013', 'people'\]"),
        ({"outputs": {"fer2013": 1}}, "Expected `array`, got `object`"),
        ({"outputs": [["fer2013"]]}, "Expected `str`, got `array`"),
        ({"outputs": "consensus"}, "Expected `array`, got `str`"),
        ({"parameters": "many"}, "Expected `int`, got `str`"),
        ({"onnx": {"file": "emotion.onnx", "precision": "int8"}}, "missing required field `sha256`"),
    ],
)
def test_wrong_card_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    model = write_model(tmp_path, **changed)
    with pytest.raises(UserError, match=message) as caught:
        read_card(model)
    assert str(caught.value).startswith(str(model.with_suffix(".json")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outputs", [LABEL_SETS, ("fer2013",), ("consensus",)])
def test_new_card_is_read_back_with_all_its_keys(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    model = tmp_path / "emotion.keras"
    model.write_bytes(b"layers and weights")
    card = {**new_card(model, outputs), "seed": 1}
    card_path(model).write_text(json.dumps(card))
    assert read_all_keys(model) == card
    assert read_card(model).outputs == outputs


def test_all_keys_include_the_default_output(tmp_path: Path) -> None:
    assert read_all_keys(write_model(tmp_path))["outputs"] == ["fer2013"]


@pytest.mark.parametrize(
    ("shape", "crop_shape"), [([48, 48, 1], (48, 48)), ([64, 64, 1], (64, 64)), ([96, 96, 3], (96, 96, 3))]
)
def test_card_says_how_faces_are_cut_out(
    tmp_path: Path, shape: list[int], crop_shape: tuple[int, ...]
) -> None:
    model = write_model(tmp_path, input={"shape": shape, "dtype": "uint8"})
    assert read_card(model).crop_shape == read_crop_shape(model) == crop_shape


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_damaged_card_is_refused(tmp_path: Path, content: str) -> None:
    model = write_model(tmp_path)
    card_path(model).write_text(content)
    with pytest.raises(UserError, match=f"^{card_path(model)}: not the card of a model: "):
        read_card(model)


@pytest.mark.parametrize(
    ("outputs", "wanted", "shown"),
    [
        (["fer2013", "consensus"], "auto", "consensus"),
        (["fer2013", "consensus"], "fer2013", "fer2013"),
        (["consensus"], "auto", "consensus"),
        (["consensus"], "fer2013", ""),
        (None, "auto", "fer2013"),
        (None, "consensus", ""),
    ],
)
def test_labels_are_chosen_among_the_outputs(
    tmp_path: Path, outputs: list[str] | None, wanted: str, shown: str
) -> None:
    model = write_model(tmp_path, outputs=outputs)
    card = read_card(model)
    if shown:
        assert choose_labels(card, wanted, model) == shown
        return
    with pytest.raises(UserError, match=f"{wanted} expected, but {model} has {card.outputs[0]} alone; set"):
        choose_labels(card, wanted, model)


def test_file_with_another_sha256_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    model.write_bytes(b"other weights")
    found = hashlib.sha256(b"other weights").hexdigest()[:12]
    with pytest.raises(UserError, match=f"{model}: not the file of .*{found}… found"):
        read_card(model)


def write_onnx(folder: Path) -> Path:
    """As `write_model`, with an ONNX file as well; returns the latter."""
    model = folder / "emotion.onnx"
    model.write_bytes(b"nodes and weights")
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    write_model(folder, onnx={"file": model.name, "sha256": sha256, "precision": "float32"})
    return model


def test_one_card_describes_the_keras_and_the_onnx_file(tmp_path: Path) -> None:
    model = write_onnx(tmp_path)
    keras = model.with_suffix(".keras")
    card, data = read_model(model)
    assert data == b"nodes and weights"
    assert card.sha256_of(model) == hashlib.sha256(data).hexdigest()
    card, data = read_model(keras)
    assert data == b"layers and weights"
    assert card.sha256_of(keras) == card.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("changed", ["emotion.onnx", "emotion.keras"])
def test_each_file_is_checked_against_its_own_sha256(tmp_path: Path, changed: str) -> None:
    model = write_onnx(tmp_path)
    (tmp_path / changed).write_bytes(b"other weights")
    for path in (model, model.with_suffix(".keras")):
        if path.name != changed:
            assert read_card(path).onnx
            continue
        with pytest.raises(UserError, match=f"{path}: not the file of {tmp_path / 'emotion.json'}"):
            read_card(path)


def test_onnx_file_without_an_entry_in_the_card_is_refused(tmp_path: Path) -> None:
    keras = write_model(tmp_path)
    model = keras.with_suffix(".onnx")
    model.write_bytes(b"nodes and weights")
    with pytest.raises(UserError) as caught:
        read_card(model)
    assert str(caught.value) == (
        f"{model}: its card describes no ONNX file; make it with: python -m trainer export {keras}"
    )


def test_missing_card_and_missing_model_are_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    card = model.with_suffix(".json")
    card.write_text("not JSON")
    with pytest.raises(UserError, match="not the card of a model"):
        read_card(model)
    card.unlink()
    with pytest.raises(UserError, match=f"{model} has no card {card}"):
        read_card(model)
    model.unlink()
    with pytest.raises(UserError, match=f"no emotion model {model}"):
        read_card(model)


def test_model_is_found_here_before_beside_run_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, here = tmp_path / "project", tmp_path / "here"
    for folder in (project, here):
        folder.mkdir()
    monkeypatch.setattr("pipeline.common.model_card.PROJECT", project)
    monkeypatch.chdir(here)
    assert find_model("emotion.keras") == Path("emotion.keras")  # named as it was given
    write_model(project)
    assert find_model("emotion.keras") == project / "emotion.keras"
    write_model(here)
    assert find_model("emotion.keras") == Path("emotion.keras")
