"""A folder of pictures, in the natural order of their names; or a single picture."""

import io
import re
import stat
import struct
import warnings
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.common.errors import UserError
from pipeline.config.sources import PICTURE_SUFFIXES, SourceSpec
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import MAX_BYTES, TimedFrame, to_bgr, too_large

FORMATS: Final = ("PNG", "JPEG", "BMP", "WEBP")
"""Each decoder more is one more that a crafted file may break."""

# What Pillow raises for a file that is cut off, damaged or no picture, its Exif tags included.
BROKEN: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
)

Image.MAX_IMAGE_PIXELS = None  # its own limit would be told without the size; ours is stricter


class FolderReader:
    """Reads each picture once; one that can't be read is told as such and ends nothing."""

    def __init__(self, spec: SourceSpec, max_bytes: int) -> None:
        """Raises UserError if there is no picture, or none that can be read."""
        path = Path(spec.text)
        try:
            entries = [path] if path.is_file() else list(path.iterdir())
        except OSError as error:
            raise UserError(f"source {spec.text!r}: {error.strerror}") from error
        self._paths = sorted((p for p in entries if p.suffix.lower() in PICTURE_SUFFIXES), key=_natural)
        if not self._paths:
            kinds = ", ".join(PICTURE_SUFFIXES)
            raise UserError(f"source {spec.text!r}: no pictures in it; expected files that end in {kinds}")
        self._next = 0
        self._max_bytes = max_bytes
        images = (read_picture(path, max_bytes)[0] for path in self._paths)
        first = next((image for image in images if image is not None), None)
        if first is None:
            raise UserError(f"source {spec.text!r}: none of its {len(self._paths)} pictures can be read")
        self.info = SourceInfo(spec.name, "file", first.shape[1], first.shape[0], 0.0)

    def read(self) -> TimedFrame | None:
        """Pictures have no time of their own: each is a second after the one before."""
        if self._next >= len(self._paths):
            return None
        path, time_s = self._paths[self._next], float(self._next)
        self._next += 1
        image, reason = read_picture(path, self._max_bytes)
        name = path.name.encode("utf-8", "replace").decode()  # a message can't hold what is not UTF-8
        return TimedFrame(image, time_s, name, reason)

    def close(self) -> None:
        """Nothing is held open between pictures."""


def read_picture(path: Path, max_bytes: int = MAX_BYTES) -> tuple[NDArray[np.uint8] | None, str]:
    """Return a picture (h, w, 3), BGR, uint8, or None and why it can't be read.

    One of more than `max_bytes` is refused by what its header claims, before there is room made for it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, a device has no end
            return None, "unreadable: not a file"
        data = _read(path, 2 * max_bytes)  # raw with 16 bits for each colour
    except OSError as error:
        return None, f"unreadable: {error.strerror}"
    if data is None:
        return None, f"unreadable: a file of more than {2 * max_bytes} bytes"
    if not data:
        return None, "unreadable: the file is empty"
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=FORMATS) as picture,
        ):
            reason = too_large(*picture.size, max_bytes)
            return (None, f"unreadable: {reason}") if reason else (_decode(picture), "")
    except BROKEN:
        return None, "unreadable: not a picture, or a damaged one"


def _decode(picture: Image.Image) -> NDArray[np.uint8]:
    """Upright, as a phone's Exif tag says; transparent parts show what is stored below them."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # grey of 16 bits
        return to_bgr(np.asarray(upright).astype(np.uint16))
    return np.asarray(cv2.cvtColor(np.asarray(upright.convert("RGB")), cv2.COLOR_RGB2BGR), np.uint8)


def _read(path: Path, limit: int) -> bytes | None:
    """The whole file; None if it is longer."""
    if path.stat().st_size > limit:
        return None
    with path.open("rb") as file:
        return file.read(limit)  # of one that grows meanwhile, no more


def _natural(path: Path) -> list[tuple[int, str]]:
    """img2 before img10; of names that count alike, as img1 and img01, always the same one first."""
    parts = re.split(r"(\d+)", path.name)
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, path.name)]
