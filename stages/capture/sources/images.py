"""A folder of pictures, in the natural order of their names; or a single picture."""

import io
import math
import os
import re
import stat
import struct
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec, is_picture, pattern_files
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import MAX_BYTES, TimedFrame, say_once, to_bgr, too_large
from stages.capture.spec import CaptureSettings

FORMATS: Final = (
    "PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "SGI", "SUN", "PCX",
    "DCX", "PSD", "QOI", "DDS", "ICO", "ICNS",
)  # fmt: skip
"""Those of PICTURE_SUFFIXES. A crafted file could break any decoder, so formats without photographs are left
out."""

VIDEO_SUFFIXES: Final = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".flv", ".wmv", ".3gp")
)
"""For the error about a folder without pictures; elsewhere a video may have any name."""

# What Pillow raises for a file that is cut off, damaged or no picture, or for its Exif tags.
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

Image.MAX_IMAGE_PIXELS = None  # ours is stricter, and its error says the size


class FolderReader:
    """Reads each picture once; for one that can't be read it returns the reason and goes on."""

    def __init__(self, spec: SourceSpec, settings: CaptureSettings, max_bytes: int) -> None:
        """Raise UserError if there is no picture, none that can be read, or none after `capture.start_s`."""
        self._paths, start_s = _pictures(spec), settings.start_s
        folders = {path.parent for path in self._paths}
        self._base = Path(os.path.commonpath(folders)) if len(folders) > 1 else folders.pop()
        if start_s > len(self._paths) - 1:
            raise UserError(
                f"it ends after {len(self._paths)} pictures, each a second, before --start {start_s:g}"
            )
        self._next = math.ceil(start_s)
        self._max_bytes = max_bytes
        images = (read_picture(path, max_bytes)[0] for path in self._paths)
        first = next((image for image in images if image is not None), None)
        if first is None:
            raise UserError(f"none of its {len(self._paths)} pictures can be read")
        frames = len(self._paths) - self._next
        self.info = SourceInfo(spec.name, "file", first.shape[1], first.shape[0], 0.0, frames)

    def read(self) -> TimedFrame | None:
        """Return the next picture, None at the end; each is a second after the one before."""
        if self._next >= len(self._paths):
            return None
        path, time_s = self._paths[self._next], float(self._next)
        self._next += 1
        image, reason = read_picture(path, self._max_bytes)
        name = path.relative_to(self._base).as_posix()
        return TimedFrame(image, time_s, _utf8(name), reason)

    def close(self) -> None:
        """Nothing is held open between pictures."""


def _pictures(spec: SourceSpec) -> list[Path]:
    """Return a source's pictures, in the natural order of their names; log what is left out.

    Raises UserError if there is none.
    """
    path = Path(spec.text)
    try:
        if path.is_file():
            return [path]
        entries = list(path.iterdir()) if path.is_dir() else pattern_files(spec.text) or []
    except OSError as error:
        raise UserError(error.strerror) from error
    pictures = sorted(filter(is_picture, entries), key=_natural)
    others = [entry for entry in entries if not is_picture(entry) and not entry.name.startswith(".")]
    said = left_out(others)
    if not pictures:
        found = f"; found {said}" if said else ""
        mend = "expected files that end in .png, .jpg, .webp, .tif or another suffix that Pillow reads"
        if any(entry.suffix.lower() in VIDEO_SUFFIXES for entry in others):
            mend = f"its videos are sources of their own: --source '{spec.text}/*.mp4'"
        raise UserError(f"no pictures in it{found}; {mend}")
    if said:
        say_once(f"{spec.name}: pictures taken {len(pictures)}, left out {len(others)}: {said}")
    return pictures


def left_out(paths: Iterable[Path]) -> str:
    """Return a summary of files that are no pictures: `2 .txt, 1 .mp4, 3 folders`; "" for none."""
    kinds = Counter(
        "folders" if path.is_dir() else _utf8(path.suffix.lower()) or "without suffix" for path in paths
    )
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def _utf8(name: str) -> str:
    """Return a name with question marks for what is not UTF-8, which messages can't hold."""
    return name.encode("utf-8", "replace").decode()


def read_picture(path: Path, max_bytes: int = MAX_BYTES) -> tuple[NDArray[np.uint8] | None, str]:
    """Return a picture (h, w, 3), BGR, uint8, or None and why it can't be read.

    One of more than `max_bytes` is refused by its header, before any memory is allocated for it.
    """
    limit = 2 * max_bytes  # raw with 16 bits for each colour
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe may block, a device may have no end
            return None, "unreadable: not a file"
        if status.st_size > limit:
            return None, f"unreadable: a file of more than {limit} bytes"
        with path.open("rb") as file:
            data = file.read(limit)  # no more of one that grows meanwhile
    except OSError as error:
        return None, f"unreadable: {error.strerror}"
    return decode_picture(data, FORMATS, max_bytes) if data else (None, "unreadable: the file is empty")


def decode_picture(
    data: bytes, formats: tuple[str, ...], max_bytes: int
) -> tuple[NDArray[np.uint8] | None, str]:
    """Return the picture in a file's content as `read_picture` does; one of another format can't be read."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=formats) as picture,
        ):
            reason = too_large(*picture.size, max_bytes)
            return (None, f"unreadable: {reason}") if reason else (_to_array(picture), "")
    except BROKEN:
        return None, "unreadable: not a picture, or a damaged one"


def _to_array(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the picture as BGR, uint8, upright by its Exif tag; transparency is ignored."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode == "F":
        return to_bgr(np.asarray(upright))
    if upright.mode.startswith("I"):  # grey of 16 bits
        return to_bgr(np.asarray(upright).astype(np.uint16))
    return np.asarray(cv2.cvtColor(np.asarray(upright.convert("RGB")), cv2.COLOR_RGB2BGR), np.uint8)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sort key: img2 before img10, and a fixed order for equal numbers, such as img1 and img01."""
    parts = re.split(r"(\d+)", str(path))
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, str(path))]
