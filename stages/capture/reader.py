"""What a reader of frames is, and the one that a source needs."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import SourceInfo
from pipeline.settings import CaptureSettings
from pipeline.sources import SourceSpec


class Picture(NamedTuple):
    """One frame of a source."""

    image: NDArray[np.uint8] | None  # (height, width, 3), BGR, C-contiguous; None: unreadable
    time_s: float  # place in the video
    file: str = ""  # of a folder's picture
    reason: str = ""  # why it is unreadable


class SourceFailed(Exception):  # noqa: N818  (an event in a source's life, not a fault of the program)
    """A source ended before its end, or a live one broke off; one line that says how."""


class Reader(Protocol):
    """An open source."""

    info: SourceInfo

    def read(self) -> Picture | None:
        """Return the next frame, or None at the end. Raises SourceFailed for an end that came too early."""

    def close(self) -> None:
        """Give back what the source holds."""


def open_reader(spec: SourceSpec, settings: CaptureSettings) -> Reader:
    """Open a source. Raises UserError if it does not open or has no frame."""
    # Each form is imported when it is needed: they need nothing of each other.
    if spec.form in ("camera", "stream"):
        from stages.capture.camera import CameraReader

        return CameraReader(spec, settings)
    from stages.capture.repeat import RepeatingReader

    plays = settings.repeat, settings.max_frames
    if spec.form == "video":
        from stages.capture.video import VideoReader

        return RepeatingReader(lambda: VideoReader(spec, settings.threads), *plays)
    if spec.form == "folder":
        from stages.capture.folder import FolderReader

        return RepeatingReader(lambda: FolderReader(spec), *plays)
    from stages.capture.demo import DemoReader

    return RepeatingReader(lambda: DemoReader(spec), *plays)
