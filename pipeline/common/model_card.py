"""The card of an emotion model: `emotion.json` beside `emotion.keras` and `emotion.onnx`.

A model file without one is refused. The card says what the files hold before anything heavy is imported, and
whether a file is the one it describes.
"""

import hashlib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.common.labels import EMOTIONS, FACE_SIZE, LABEL_SETS

FORMAT: Final = 1
INPUT_SHAPE: Final = (FACE_SIZE, FACE_SIZE, 1)
MAX_BYTES: Final = 1 << 28
"""Of a model file: a hundred times what the tutorial's network has."""


class CardInput(msgspec.Struct, frozen=True):
    """What the model takes: the shape of one face and its type."""

    shape: list[int]
    dtype: str


class OnnxFile(msgspec.Struct, frozen=True):
    """The same network for ONNX Runtime; other keys (command, calibration, loss) are for people."""

    file: str
    sha256: str
    precision: Literal["float32", "int8"]


class Card(msgspec.Struct, frozen=True):
    """What the pipeline reads of a card; other keys (settings, seed, command) are for people."""

    format: int
    labels: list[str]
    input: CardInput
    file: str = ""  # the Keras file, as `sha256`; empty: there is none
    sha256: str = ""
    name: str = ""
    parameters: int = 0
    multiply_adds: int = 0
    outputs: tuple[str, ...] = ("fer2013",)  # the sets of labels that the model has an output for
    figures: dict[str, Any] = {}  # by set of labels: {"fer2013": {"top1": 0.66, …}}
    onnx: OnnxFile | None = None

    def sha256_of(self, model: Path) -> str:
        """Return the sha256 that the file `model` must have. Raises UserError if the card has none for it."""
        if model.suffix != ".onnx":
            if not self.sha256:
                raise UserError(f"{model}: its card describes no Keras file; take model and card together")
            return self.sha256
        if self.onnx is None:
            raise UserError(
                f"{model}: its card describes no ONNX file; make it with: "
                f"python -m trainer export {model.with_suffix('.keras')}"
            )
        return self.onnx.sha256


def read_card(model: Path) -> Card:
    """Return the card of a model file, .onnx or .keras.

    Raises UserError if model or card is missing, or the model is not what the card and the pipeline expect.
    """
    return read_model(model)[0]


def read_model(model: Path) -> tuple[Card, bytes]:
    """Return the card of a model file and the file's content, which is the one that was checked.

    Raises UserError as `read_card` does.
    """
    if not model.is_file():
        raise UserError(f"no emotion model {model}; set classify.model, or train one: python -m trainer fit")
    path = card_path(model)
    if model == path:
        raise UserError(f"{model} is a card; classify.model names the .onnx or .keras file beside it")
    try:
        card = msgspec.json.decode(path.read_bytes(), type=Card)
    except FileNotFoundError as error:
        raise UserError(f"{model} has no card {path}; python -m trainer fit writes both") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not the card of a model: {error}") from error
    _check(card, path)
    expected = card.sha256_of(model)
    data = _content(model)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise UserError(
            f"{model}: not the file of {path}: sha256 {expected[:12]}… expected, {found[:12]}… found"
        )
    return card, data


def find_model(text: str) -> Path:
    """Return the path that `classify.model` names: from here or, failing that, beside run.py."""
    beside = PROJECT / text
    return beside if not Path(text).exists() and beside.exists() else Path(text)


def choose_labels(card: Card, wanted: str, model: Path) -> str:
    """Return whose labels are shown: those wanted or, for "auto", people's where the model has learnt them.

    Raises UserError if the model has no output for them.
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


def card_path(model: Path) -> Path:
    return model.with_suffix(".json")


def _content(model: Path) -> bytes:
    try:
        size = model.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{model}: {size:,} bytes, at most {MAX_BYTES:,} are expected of a model")
        return model.read_bytes()
    except OSError as error:
        raise UserError(f"{model}: {error.strerror}") from error


def _check(card: Card, path: Path) -> None:
    expected = {
        "format": (FORMAT, card.format),
        "labels": (list(EMOTIONS), card.labels),
        "input.shape": (list(INPUT_SHAPE), card.input.shape),
        "input.dtype": ("uint8", card.input.dtype),
    }
    for key, (right, found) in expected.items():
        if right != found:
            raise UserError(f"{path}: {key}: expected {right}, found {found}")
    if not card.outputs or any(name not in LABEL_SETS for name in card.outputs):
        sets = " and ".join(LABEL_SETS)
        raise UserError(f"{path}: outputs: expected {sets} or one of them, found {list(card.outputs)}")
