"""One picture file, as bytes, becomes one checked face."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.emotions import FACE_SIZE
from pipeline.errors import UserError

Face = NDArray[np.uint8]
"""One grey face: (48, 48) uint8."""

# What Pillow raises for a file that is cut off, damaged or no picture at all.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def decode(content: bytes, where: str) -> Face:
    """Decode a png or jpg picture of 48×48 pixels; colours become grey.

    `where` names the file in errors. Returns (48, 48) uint8.
    Raises UserError if it is no picture, is damaged or has another size.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            # The size stands in the header: a huge picture is refused before it is decoded.
            check_size(picture.size, where)
            grey: NDArray[Any] = np.array(picture.convert("L"), dtype=np.uint8)
    except BROKEN as error:
        raise UserError(
            f"{where}: expected a whole png or jpg picture, found a damaged one "
            f"({str(error) or 'no picture'}); replace the file or take it out"
        ) from error
    return grey


def check_size(size: tuple[int, int], where: str) -> None:
    """Raise UserError unless `size` (width, height in pixels) is that of a face."""
    if size != (FACE_SIZE, FACE_SIZE):
        raise UserError(
            f"{where}: expected a picture of {FACE_SIZE}x{FACE_SIZE} pixels, found {size[0]}x{size[1]}; "
            "FER2013's pictures all have that size: take it out or cut it to size"
        )
