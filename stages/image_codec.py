"""Frames as they travel: raw pixels, a JPEG of them, or the name of shared memory that holds them."""

import io
import math
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.wire.messages import Buffer, Encoding
from stages.shared_frames import FrameReader

_END = b"\xff\xd9"  # the marker that closes a JPEG: a decoder makes up what is missing before it


class BadFrame(Exception):  # noqa: N818  (what arrived, not a fault of the program)
    """What arrived is not the frame that was announced; one line that says how."""


def to_jpeg(image: NDArray[np.uint8], quality: int) -> Buffer:
    """Return a picture (height, width, 3), BGR, as a JPEG of a quality from 1 to 100."""
    import cv2

    written, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    assert written
    return data.data


class ImageReader:
    """Turns what arrives into pictures."""

    def __init__(self, max_bytes: int, frames: str = "") -> None:
        """A JPEG may make no more than `max_bytes` of pixels: what raw pixels could have brought as well.

        frames: the directory of shared frames; "" where there is none.
        """
        self._max_bytes = max_bytes
        self._shared = FrameReader(Path(frames)) if frames else None

    def image(self, buffer: Buffer, encoding: Encoding, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return the picture of a buffer, `shape` (height, width, 3), BGR; it may be read-only.

        Raises BadFrame for what is not there, for a JPEG that claims another size, before it is decoded, and
        for one that is broken.
        """
        match encoding:
            case "raw":
                return np.frombuffer(buffer, np.uint8).reshape(shape)
            case "shared":
                return self._from_shared(bytes(buffer), shape)
            case "jpeg":
                return self._from_jpeg(buffer, shape)

    def _from_shared(self, name: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        if self._shared is None:
            raise BadFrame("shared frame: this process shares no memory with its capture")
        try:
            return self._shared.read(name.decode("ascii", "replace"), shape)
        except OSError as error:
            raise BadFrame(f"shared frame: {error.strerror or error}") from error

    def _from_jpeg(self, buffer: Buffer, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        import cv2

        if math.prod(shape) > self._max_bytes:
            raise BadFrame(f"JPEG of {shape[1]}×{shape[0]} px: larger than broker.max_message_bytes")
        found = _claimed_size(buffer)
        if found != (shape[1], shape[0]):
            raise BadFrame(f"JPEG: {shape[1]}×{shape[0]} px announced, {found[0]}×{found[1]} found")
        if bytes(buffer[-2:]) != _END:
            raise BadFrame("JPEG: cut off")
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(buffer, np.uint8), flags)
        except cv2.error as error:
            raise BadFrame(f"JPEG: {error.err or error}") from error
        if image is None or image.shape != shape:
            raise BadFrame("JPEG: broken")
        return np.asarray(image, np.uint8)


def _claimed_size(buffer: Buffer) -> tuple[int, int]:
    """Width and height that a JPEG's header claims, px; its pixels are left alone."""
    from PIL import Image  # here, as OpenCV below: a run on one machine sends no JPEG

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bombs: the announced size is the limit; of odd metadata
        try:
            with Image.open(io.BytesIO(buffer), formats=("JPEG",)) as header:
                return header.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadFrame(f"JPEG: no header that can be read: {type(error).__name__}") from error
