"""What a reader of frames is, and the opening of the one that a source needs."""

import functools
import logging
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple, Protocol

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.config.schema import BrokerSettings
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import MAX_SIDE, SourceInfo
from stages.capture.spec import CaptureSettings

log = logging.getLogger(__name__)


def to_bgr(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a grey (h, w), (h, w, 1), BGR or BGRA picture as BGR uint8.

    Its values may be of 8 or 16 bits, or floats from 0 to 1 or from 0 to 255.

    Transparency is ignored.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = np.nan_to_num(image)
        image = (np.clip(image if image.max() <= 1 else image / 255, 0, 1) * 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    elif image.shape[2] == 4:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR))
    return np.ascontiguousarray(image, np.uint8)


BYTES_PER_PIXEL: Final = 3
MAX_BYTES: Final = BrokerSettings().max_message_bytes

CLOSE_S: Final = 1.0
"""How long the end of a run waits for a picture that is being read."""


class TimedFrame(NamedTuple):
    """One frame of a source."""

    image: NDArray[np.uint8] | None  # (height, width, 3), BGR, C-contiguous; None: unreadable
    time_s: float  # place in the video
    file: str = ""  # of a folder's picture
    reason: str = ""  # why it is unreadable


class SourceFailed(Exception):  # noqa: N818  (an event in a source's life, not a fault of the program)
    """A file ended too early, or a live source broke off; one line that says how."""


class SourceStuck(Exception):  # noqa: N818
    """The reading thread hangs: only the end of the process releases what it holds."""


class Reader(Protocol):
    """An open source."""

    info: SourceInfo

    def read(self) -> TimedFrame | None:
        """Return the next frame, None at the end. Raises SourceFailed if the end came too early."""

    def close(self) -> None:
        """Give back what the source holds."""


@functools.cache
def say_once(line: str) -> None:
    """Log a line about a source once, however often the source is opened."""
    log.info("%s", line)


def too_large(width: int, height: int, max_bytes: int) -> str:
    """Return why a picture of this size is refused, "" if it is within the limits."""
    if max(width, height) > MAX_SIDE:
        return f"{width}×{height} px, {MAX_SIDE} is the limit"
    if BYTES_PER_PIXEL * width * height > max_bytes:
        return f"{width}×{height} px are larger than broker.max_message_bytes"
    return ""


SOURCES: Final = {
    "camera": ("stages.capture.sources.camera", "CameraReader"),
    "stream": ("stages.capture.sources.stream", "open_stream"),
    "video": ("stages.capture.sources.video", "open_video"),
    "pipe": ("stages.capture.sources.video", "open_video"),
    "folder": ("stages.capture.sources.images", "FolderReader"),
    "demo": ("stages.capture.sources.demo", "open_demo"),
}
"""Module and function, by the form of the source: it is called with the source, the settings and the most
bytes of a picture. A module is imported when it is needed: OpenCV and PyAV take time to load.

It raises UserError if the source does not open or has no frame; `open_reader` adds which source it is."""


def open_reader(spec: SourceSpec, settings: CaptureSettings, max_bytes: int = MAX_BYTES) -> Reader:
    """Open a source; a file is repeated as `settings` say. max_bytes: the most that a picture may have.

    Raises UserError if it does not open or has no frame.
    """

    def reopen() -> Reader:
        try:
            return _open(spec, settings, max_bytes)
        except UserError as error:
            raise UserError(f"source {spec.shown!r}: {error}") from error

    opened = reopen()
    return opened if opened.info.kind == "live" else RepeatingReader(reopen, settings, opened)


def _open(spec: SourceSpec, settings: CaptureSettings, max_bytes: int) -> Reader:
    if spec.form not in SOURCES:
        raise UserError("a visitor's camera is a source of a run alone: run.py --source browser")
    module, name = SOURCES[spec.form]
    opener: Callable[[SourceSpec, CaptureSettings, int], Reader] = getattr(import_module(module), name)
    return opener(spec, settings, max_bytes)


SAME_TIME: Final = 0.05
"""A frame that is early by this share of an interval belongs to it: times are rounded, in Matroska to ms."""


class RepeatingReader:
    """A file that is opened again at its end, or after `capture.duration_s`; the times of its frames go
    on."""

    def __init__(
        self, reopen: Callable[[], Reader], settings: CaptureSettings, opened: Reader | None = None
    ) -> None:
        """`opened`: the first opening, if there was one. Raises what `reopen` raises."""
        self._reopen = reopen
        self._reader = opened or reopen()
        info, self._sample_fps = self._reader.info, settings.sample_fps
        fps = min(info.fps, self._sample_fps) if self._sample_fps else info.fps
        self.info = msgspec.structs.replace(info, fps=fps, frames=_announced(info, settings))
        self._left = settings.repeat - 1 if settings.repeat else None
        self._frames_left = settings.max_frames or None
        self._start_s = settings.start_s
        self._end_s = settings.start_s + settings.duration_s if settings.duration_s else math.inf
        self._offset_s = 0.0
        self._last_s = 0.0
        self._step_s = 1 / self.info.fps if self.info.fps else 1.0
        self._read_in_pass = 0
        self._sampled = -1  # the interval of 1/sample_fps that the latest frame was in

    def read(self) -> TimedFrame | None:
        if self._frames_left == 0:
            return None
        picture = self._next()
        if picture is None:
            if self._left == 0 or self._read_in_pass == 0:
                return None
            self._begin_again()
            picture = self._next()
            if picture is None:
                return None
        self._read_in_pass += 1
        if self._frames_left is not None:
            self._frames_left -= 1
        self._last_s = self._offset_s + picture.time_s
        return picture._replace(time_s=self._last_s)

    def close(self) -> None:
        self._reader.close()

    def _next(self) -> TimedFrame | None:
        """Return the next picture of this pass, None at its end."""
        while (picture := self._reader.read()) is not None and picture.time_s < self._end_s:
            if not self._sample_fps:
                return picture
            interval = math.floor((picture.time_s - self._start_s) * self._sample_fps + SAME_TIME)
            if interval > self._sampled:  # the first one in it
                self._sampled = interval
                return picture
        return None

    def _begin_again(self) -> None:
        self._reader.close()
        self._reader = self._reopen()
        self._offset_s = self._last_s + self._step_s - self._start_s
        self._read_in_pass, self._sampled = 0, -1
        if self._left is not None:
            self._left -= 1


def _announced(info: SourceInfo, settings: CaptureSettings) -> int:
    """Return the expected number of frames of all passes, 0 if it is not known."""
    frames = info.frames
    if frames and settings.duration_s:
        frames = min(frames, math.ceil(settings.duration_s * (info.fps or 1.0)))
    if settings.sample_fps:
        frames = math.ceil(frames * min(1.0, settings.sample_fps / (info.fps or 1.0)))
    if frames and not settings.repeat:
        return settings.max_frames
    frames *= settings.repeat
    return min(frames, settings.max_frames or frames)
