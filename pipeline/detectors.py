"""Which face detector `detect.model` names: told from the files alone, without OpenCV."""

from pathlib import Path
from typing import Final, Literal, NamedTuple

from pipeline.errors import UserError

YUNET_PATTERN: Final = "face_detection_yunet*.onnx"
GET_YUNET: Final = "python run.py download yunet"

_PROJECT: Final = Path(__file__).resolve().parent.parent


class DetectorChoice(NamedTuple):
    """The detector, YuNet's file, and a line that says why if the choice was left open."""

    kind: Literal["haar", "yunet"]
    path: Path | None
    said: str = ""


def resolve_model(model: str, root: Path = _PROJECT) -> DetectorChoice:
    """Return the detector for `haar`, `yunet`, `auto` or the path of a YuNet file.

    Raises UserError if the file that is asked for is not there.
    """
    if model == "haar":
        return DetectorChoice("haar", None)
    if model in ("yunet", "auto"):
        found = sorted((root / "models").glob(YUNET_PATTERN))
        if found:
            return DetectorChoice("yunet", found[-1])  # their names end in the year and month
        if model == "auto":
            said = f"detector: Haar, for want of YuNet, which finds more and is faster: {GET_YUNET}"
            return DetectorChoice("haar", None, said)
        raise UserError(f"detect.model: no {YUNET_PATTERN} in {root / 'models'}; get it with: {GET_YUNET}")
    path = Path(model)
    try:
        is_file = path.is_file()
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise UserError(f"detect.model: {model!r}: {error.strerror}") from error
    if not is_file:
        raise UserError(
            f"detect.model: haar, yunet, auto or the path of a YuNet .onnx file is expected, "
            f"and there is no file {model!r}; get it with: {GET_YUNET}"
        )
    return DetectorChoice("yunet", path)
