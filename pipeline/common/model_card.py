"""The card of an emotion model: `emotion.json` beside `emotion.keras` and `emotion.onnx`.

It describes both files and has the sha256 of each. A model file without its card, or with another sha256, is
refused before anything heavy is imported.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT, sha256
from pipeline.common.labels import EMOTIONS, FACE_SIZE, LABEL_SETS

FORMAT: Final = 1
INPUT_SHAPE: Final = (FACE_SIZE, FACE_SIZE, 1)
SIZES: Final = range(16, 513)
"""Pixels of the side of a model's faces."""
MAX_BYTES: Final = 1 << 28
"""Largest model file that is read: 256 MiB."""


class CardInput(msgspec.Struct, frozen=True):
    """What the model takes: the shape of a face, grey (size, size, 1) or RGB (size, size, 3); its dtype."""

    shape: list[int]
    dtype: str


class OnnxFile(msgspec.Struct, frozen=True):
    """The network for ONNX Runtime. Other keys (file, precision, command) are not parsed."""

    sha256: str


class Card(msgspec.Struct, frozen=True):
    """The keys of a card that programs use. Other keys (settings, seed, command) are not parsed."""

    format: int
    labels: list[str]
    input: CardInput
    sha256: str = ""
    """Of the Keras file; empty if there is none."""
    name: str = ""
    parameters: int = 0
    multiply_adds: int = 0
    outputs: tuple[str, ...] = ("fer2013",)
    """The label sets for which the model has an output."""
    figures: dict[str, Any] = {}
    """Metrics by label set, as in {"fer2013": {"top1": 0.66, …}}."""
    onnx: OnnxFile | None = None
    not_learned: dict[str, tuple[str, ...]] = {}
    """By label set, the emotions that the model never predicts."""

    @property
    def crop_shape(self) -> tuple[int, ...]:
        """The shape of a crop for this model: (size, size), grey, or (size, size, 3), RGB."""
        size, _, channels = self.input.shape
        return (size, size) if channels == 1 else (size, size, channels)

    def uncertain_below(self, label_set: str) -> float | None:
        """Return the confidence below which a label of this set is shown as uncertain; None: not measured."""
        figures = self.figures.get(label_set)
        value = figures.get("uncertain_below") if isinstance(figures, dict) else None
        return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None

    def sha256_of(self, model: Path) -> str:
        """Return the sha256 that the file `model` must have. Raises UserError if the card has none for it."""
        if model.suffix != ".onnx":
            if not self.sha256:
                raise UserError(f"{model}: its card has no sha256 for it; take both from the same place")
            return self.sha256
        if self.onnx is None:
            raise UserError(
                f"{model}: its card describes no ONNX file; make it with: "
                f"python -m trainer export {model.with_suffix('.keras')}"
            )
        return self.onnx.sha256


def card_path(model: Path) -> Path:
    """Return the path of the card of a model file, .onnx or .keras."""
    return model.with_suffix(".json")


def new_card(
    model: Path | None, outputs: Sequence[str] = ("fer2013",), shape: Sequence[int] = INPUT_SHAPE
) -> dict[str, Any]:
    """Return the keys that every card has, for faces of `shape`, and for the Keras file if there is one."""
    return {
        "format": FORMAT,
        **({} if model is None else {"file": model.name, "sha256": sha256(model)}),
        "labels": list(EMOTIONS),
        "input": {"shape": list(shape), "dtype": "uint8"},
        "outputs": list(outputs),
    }


def read_card(model: Path) -> Card:
    """Return the card of a model file, .onnx or .keras.

    Raises UserError if the model or its card is missing, if the card is malformed or describes another input,
    other labels or other outputs than this program uses, or if the file's sha256 is not the card's.
    """
    return _read(model)[0]


def read_model(model: Path) -> tuple[Card, bytes]:
    """Return the card of a model file and its checked bytes. Raises as `read_card` does."""
    card, _, content = _read(model)
    return card, content


def read_crop_shape(model: Path) -> tuple[int, ...]:
    """Return the shape of crops for a model file, by its card alone. Raises UserError for a bad card."""
    return _read_card(model, card_path(model))[0].crop_shape


def read_all_keys(model: Path) -> dict[str, Any]:
    """Return the card with all its keys, `outputs` always among them. Raises as `read_card` does."""
    card, values, _ = _read(model)
    return {**values, "outputs": list(card.outputs)}


def find_model(text: str) -> Path:
    """Return the path of `classify.model`: in the working directory or else beside run.py."""
    beside = PROJECT / text
    return beside if not Path(text).exists() and beside.exists() else Path(text)


def choose_labels(card: Card, wanted: str, model: Path) -> str:
    """Return the label set to show: `wanted` or, for "auto", consensus if the model has it.

    Raises UserError if the model has no output for it.
    """
    if wanted == "auto":
        return "consensus" if "consensus" in card.outputs else card.outputs[0]
    if wanted not in card.outputs:
        found = ", ".join(card.outputs)
        raise UserError(
            f"classify.labels: {wanted} expected, but {model} has {found} alone; "
            f"set classify.labels={found}, or use a model with both"
        )
    return wanted


def _read(model: Path) -> tuple[Card, dict[str, Any], bytes]:
    """Return the parsed card, all its keys, and the content of the model file. Raises UserError."""
    if not model.is_file():
        raise UserError(f"no emotion model {model}; set classify.model, or train one: python -m trainer fit")
    path = card_path(model)
    if model == path:
        raise UserError(f"{model} is a card; name the .onnx or .keras file beside it")
    card, values = _read_card(model, path)
    expected = card.sha256_of(model)
    content = _content(model)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"{model}: not the file of {path}: sha256 {expected[:12]}… expected, {found[:12]}… found"
        )
    return card, values, content


def _read_card(model: Path, path: Path) -> tuple[Card, dict[str, Any]]:
    try:
        values = msgspec.json.decode(path.read_bytes())
        card = msgspec.convert(values, Card)
    except FileNotFoundError as error:
        raise UserError(
            f"{model} has no card {path}; python -m trainer fit writes both, "
            "python -m trainer export --labels … one for a Keras model of your own"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not the card of a model: {error}") from error
    _check(card, path)
    return card, values


def _content(model: Path) -> bytes:
    try:
        size = model.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{model}: {size:,} bytes; a model has at most {MAX_BYTES:,}")
        return model.read_bytes()
    except OSError as error:
        raise UserError(f"{model}: {error.strerror}") from error


def _check(card: Card, path: Path) -> None:
    expected = {
        "format": (FORMAT, card.format),
        "labels": (list(EMOTIONS), card.labels),
        "input.dtype": ("uint8", card.input.dtype),
    }
    for key, (right, found) in expected.items():
        if right != found:
            raise UserError(f"{path}: {key}: expected {right}, found {found}")
    height, width, channels = (*card.input.shape, 0, 0, 0)[:3]
    if len(card.input.shape) != 3 or height != width or height not in SIZES or channels not in (1, 3):
        raise UserError(
            f"{path}: input.shape: expected [size, size, 1 or 3], of {SIZES[0]} to {SIZES[-1]} pixels, "
            f"found {card.input.shape}"
        )
    if not card.outputs or any(name not in LABEL_SETS for name in card.outputs):
        sets = " and ".join(LABEL_SETS)
        raise UserError(f"{path}: outputs: expected {sets} or one of them, found {list(card.outputs)}")
