"""A folder of pictures, in the natural order of their names; or a single picture."""

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.messages import MAX_SIDE, SourceInfo
from pipeline.sources import PICTURE_SUFFIXES, SourceSpec
from stages.capture.reader import Picture


class FolderReader:
    """Reads each picture once; one that can't be read is told as such and ends nothing."""

    def __init__(self, spec: SourceSpec) -> None:
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
        first = next((image for p in self._paths if (image := read_picture(p)[0]) is not None), None)
        if first is None:
            raise UserError(f"source {spec.text!r}: none of its {len(self._paths)} pictures can be read")
        self.info = SourceInfo(spec.name, "file", first.shape[1], first.shape[0], 0.0)

    def read(self) -> Picture | None:
        """Pictures have no time of their own: each is a second after the one before."""
        if self._next >= len(self._paths):
            return None
        path, time_s = self._paths[self._next], float(self._next)
        self._next += 1
        image, reason = read_picture(path)
        name = path.name.encode("utf-8", "replace").decode()  # a message can't hold what is not UTF-8
        return Picture(image, time_s, name, reason)

    def close(self) -> None:
        """Nothing is held open between pictures."""


def read_picture(path: Path) -> tuple[NDArray[np.uint8] | None, str]:
    """Return a picture (h, w, 3), BGR, uint8, or None and why it can't be read."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        return None, f"unreadable: {error.strerror}"
    if not len(data):
        return None, "unreadable: the file is empty"
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)  # 8 bits, and upright as a phone's Exif tag says
    except cv2.error:  # a size beyond OpenCV's own limit
        image = None
    if image is None:
        return None, "unreadable: not a picture that OpenCV can decode"
    if max(image.shape[:2]) > MAX_SIDE:
        return None, f"unreadable: {image.shape[1]}×{image.shape[0]} px, {MAX_SIDE} is the limit"
    return np.asarray(image, np.uint8), ""


def _natural(path: Path) -> list[tuple[int, str]]:
    """img2 before img10; of names that count alike, as img1 and img01, always the same one first."""
    parts = re.split(r"(\d+)", path.name)
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, path.name)]
