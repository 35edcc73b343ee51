"""The card: JSON beside a model, .keras or .onnx, that says what it is, and without which it is not used."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.common.errors import UserError
from pipeline.common.files import sha256
from pipeline.common.labels import EMOTIONS, FACE_SIZE, LABEL_SETS

FORMAT: Final = 1
INPUT: Final = {"shape": [FACE_SIZE, FACE_SIZE, 1], "dtype": "uint8"}
EXPECTED: Final = {"format": FORMAT, "labels": list(EMOTIONS), "input": INPUT}
"""What a card must say for this program to use its model rightly."""


def card_path(model: Path) -> Path:
    """Where the card of the file `model` lies."""
    return model.with_suffix(".json")


def identity(model: Path, outputs: Sequence[str] = ("fer2013",)) -> dict[str, Any]:
    """The part of a card that names the file `model`, how it is fed, and the sets of labels that it gives."""
    return {
        "format": FORMAT,
        "file": model.name,
        "sha256": sha256(model),
        "labels": list(EMOTIONS),
        "input": INPUT,
        "outputs": list(outputs),
    }


def read_card(model: Path) -> dict[str, Any]:
    """The card of the file `model`, checked against it.

    Its `outputs`, the sets of labels that the model gives, are those of LABEL_SETS or one of them; a card
    without that key is of a model that gives FER2013's labels alone.
    Raises UserError if either is missing, if the card is damaged or says another format, other labels,
    another input or other outputs than this program's, or if the file's sha256 is another.
    """
    if not model.is_file():
        raise UserError(f"{model}: no such file; expected a model that `python -m trainer fit` wrote")
    path = card_path(model)
    if path == model or not path.is_file():
        raise UserError(f"{path}: no such file; expected the card of {model.name}, keep the two together")
    card = parse(path)
    for key, expected in EXPECTED.items():
        if card.get(key) != expected:
            raise UserError(
                f"{path}: {key}: expected {expected}, found {card.get(key)}; use a card of this version"
            )
    outputs = card.setdefault("outputs", ["fer2013"])
    if not isinstance(outputs, list) or not outputs or any(name not in LABEL_SETS for name in outputs):
        raise UserError(
            f"{path}: outputs: expected {' and '.join(LABEL_SETS)} or one of them, found {outputs}; "
            "use a card of this version"
        )
    if (expected := expected_sha256(card, model)) != (found := sha256(model)):
        raise UserError(
            f"{model}: expected sha256 {expected[:12]}… as its card says, "
            f"found {found[:12]}…; the card describes another file: take both from the same place"
        )
    return card


def expected_sha256(card: dict[str, Any], model: Path) -> str:
    """What `card` says of the file `model`. Raises UserError if that is an ONNX file without an entry."""
    if model.suffix != ".onnx":
        return str(card.get("sha256"))
    if not isinstance(entry := card.get("onnx"), dict):
        raise UserError(
            f"{model}: its card describes no ONNX file; make it with: "
            f"python -m trainer export {model.with_suffix('.keras')}"
        )
    return str(entry.get("sha256"))


def parse(path: Path) -> dict[str, Any]:
    """The JSON object at `path`. Raises UserError if it isn't one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected a card in JSON, found it damaged ({error}); fetch it anew"
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: expected a card, a JSON object, found {type(value).__name__}; fetch it anew"
        )
    return value


def ancestor(model: Path, role: str) -> dict[str, Any]:
    """What the card of a model learned from another says of that other: the file `model`.

    `role` is what it was, "start" or "teacher". Beside it stand its sha256, the command, settings, versions
    and data that made it and its own ancestors, each None where its card doesn't say. Raises UserError as
    `read_card` does.
    """
    card = read_card(model)
    made_by = ("sha256", "command", "settings", "versions", "data", "ancestors")
    return {"role": role, **{key: card.get(key) for key in made_by}}
