"""Which face detector `detect.model` names: told from the files alone, without OpenCV or ONNX Runtime."""

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT

YUNET: Final = Path("models/face_detector.onnx")
"""The project's own, from its directory."""


class DetectorKind(NamedTuple):
    """Where a detector's class is; it is called with the settings and the path of its file."""

    module: str
    name: str
    own_file: Path | None = None  # from the project's directory, with a card beside it


DETECTORS: Final = {
    "yunet": DetectorKind("stages.detect.yunet", "YuNetDetector", YUNET),
    "haar": DetectorKind("stages.detect.haar", "HaarDetector"),
    "cropped": DetectorKind("stages.detect.cropped", "WholeFrame"),
}
"""By the word in `detect.model`. A module is imported when it is chosen."""

EXPECTED: Final = f"{', '.join(DETECTORS)} or the path of a YuNet .onnx file"


class DetectorChoice(NamedTuple):
    """The detector, and its file if it has one."""

    kind: str
    path: Path | None


class _Card(msgspec.Struct, frozen=True):
    """What is read of the card beside a file of the project's own; the rest is for people."""

    sha256: str


def resolve_model(model: str, root: Path = PROJECT) -> DetectorChoice:
    """Return the detector for a word of DETECTORS or the path of a YuNet file.

    Raises UserError if the file that is asked for is not there, or the project's own is not its card's.
    """
    if model in DETECTORS:
        own_file = DETECTORS[model].own_file
        return DetectorChoice(model, own_file and _checked(root / own_file))
    if model == "auto":
        raise UserError(f"detect.model: auto is gone, for yunet is the default now; {EXPECTED} expected")
    path = Path(model)
    try:
        is_file = path.is_file()
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise UserError(f"detect.model: {model!r}: {error.strerror}") from error
    if not is_file:
        raise UserError(f"detect.model: {EXPECTED} expected, and there is no file {model!r}")
    return DetectorChoice("yunet", path)


def _checked(path: Path) -> Path:
    """Return the path of a file of the project's own, checked against its card."""
    card = path.with_suffix(".json")
    try:
        expected = msgspec.json.decode(card.read_bytes(), type=_Card).sha256
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        said = f"{error.filename}: {error.strerror}; it comes with the project"
        raise UserError(f"detect.model: {said}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"detect.model: {card}: not the card of a detector: {error}") from error
    if found != expected:
        raise UserError(
            f"detect.model: {path}: not the file of {card}: "
            f"sha256 {expected[:12]}… expected, {found[:12]}… found; get both from the project again"
        )
    return path
