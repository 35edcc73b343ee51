"""What a reader of frames is, and the one that a source needs."""

from typing import Any, Final, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import BrokerSettings
from pipeline.wire.messages import MAX_SIDE, SourceInfo


def to_bgr(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a grey (h, w), (h, w, 1), BGR or BGRA picture of 8 or 16 bits or floats 0..1 as BGR uint8.

    Transparent parts show what is stored below them.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    elif image.shape[2] == 4:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR))
    return np.ascontiguousarray(image, np.uint8)


BYTES_PER_PIXEL: Final = 3
MAX_BYTES: Final = BrokerSettings().max_message_bytes

CLOSE_S: Final = 1.0
"""At the end of a run a picture is waited for no longer: most take far less."""


class TimedFrame(NamedTuple):
    """One frame of a source."""

    image: NDArray[np.uint8] | None  # (height, width, 3), BGR, C-contiguous; None: unreadable
    time_s: float  # place in the video
    file: str = ""  # of a folder's picture
    reason: str = ""  # why it is unreadable


class SourceFailed(Exception):  # noqa: N818  (an event in a source's life, not a fault of the program)
    """A source ended before its end, or a live one broke off; one line that says how."""


class SourceStuck(Exception):  # noqa: N818
    """The thread that reads has not come back: only the end of the process frees what it holds."""


class Reader(Protocol):
    """An open source."""

    info: SourceInfo

    def read(self) -> TimedFrame | None:
        """Return the next frame, or None at the end. Raises SourceFailed for an end that came too early."""

    def close(self) -> None:
        """Give back what the source holds."""


def too_large(width: int, height: int, max_bytes: int) -> str:
    """Say why no room is made for a picture of this size; empty if it is within the limits."""
    if max(width, height) > MAX_SIDE:
        return f"{width}×{height} px, {MAX_SIDE} is the limit"
    if BYTES_PER_PIXEL * width * height > max_bytes:
        return f"{width}×{height} px are larger than broker.max_message_bytes"
    return ""
