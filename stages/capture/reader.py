"""What a reader of frames is, and the one that a source needs."""

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import MAX_SIDE, SourceInfo
from pipeline.settings import BrokerSettings, CaptureSettings
from pipeline.sources import SourceSpec

BYTES_PER_PIXEL: Final = 3
MAX_BYTES: Final = BrokerSettings().max_message_bytes

CLOSE_S: Final = 1.0
"""At the end of a run a picture is waited for no longer: most take far less."""


class Picture(NamedTuple):
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

    def read(self) -> Picture | None:
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


def open_reader(spec: SourceSpec, settings: CaptureSettings, max_bytes: int = MAX_BYTES) -> Reader:
    """Open a source, whose pictures may have so many bytes. Raises UserError if it does not open or has no
    frame."""
    # Each form is imported when it is needed: they need nothing of each other.
    if spec.form == "camera":
        from stages.capture.camera import CameraReader

        return CameraReader(spec, settings)
    if spec.form == "stream":
        from stages.capture.stream import StreamReader

        return StreamReader(spec, settings, max_bytes)
    from stages.capture.repeat import RepeatingReader

    plays = settings.repeat, settings.max_frames
    if spec.form == "video":
        from stages.capture.video import VideoReader

        return RepeatingReader(lambda: VideoReader(spec, settings.threads, max_bytes), *plays)
    if spec.form == "folder":
        from stages.capture.folder import FolderReader

        return RepeatingReader(lambda: FolderReader(spec, max_bytes), *plays)
    from stages.capture.demo import DemoReader

    return RepeatingReader(lambda: DemoReader(spec), *plays)
