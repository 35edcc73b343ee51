"""What a reader of frames is, and the opening of the one that a source needs."""

import functools
import logging
import math
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count, islice
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
    return opened if opened.info.kind == "live" else RepeatingReader(opened, reopen, settings)


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

    def __init__(self, opened: Reader, reopen: Callable[[], Reader], settings: CaptureSettings) -> None:
        self._reader = opened
        self._reopen = reopen
        self._settings = settings
        info, sample_fps = opened.info, settings.sample_fps
        fps = min(info.fps, sample_fps) if sample_fps else info.fps
        self.info = msgspec.structs.replace(info, fps=fps, frames=_announced(info, settings))
        self._frames = islice(self._all_passes(), settings.max_frames or None)

    def read(self) -> TimedFrame | None:
        """See Reader; it also raises what `reopen` raises."""
        return next(self._frames, None)

    def close(self) -> None:
        self._reader.close()

    def _all_passes(self) -> Iterator[TimedFrame]:
        """Yield the frames of all passes; a pass without any is the last."""
        settings = self._settings
        step_s = 1 / self.info.fps if self.info.fps else 1.0
        offset_s = last_s = 0.0
        for number in range(settings.repeat) if settings.repeat else count():
            if number:
                self._reader.close()
                self._reader = self._reopen()
                offset_s = last_s + step_s - settings.start_s
            empty = True
            for picture in self._one_pass():
                empty = False
                last_s = offset_s + picture.time_s
                yield picture._replace(time_s=last_s)
            if empty:
                return

    def _one_pass(self) -> Iterator[TimedFrame]:
        """Yield the frames up to the end or `capture.duration_s`, at most `capture.sample_fps` a second."""
        start_s, sample_fps = self._settings.start_s, self._settings.sample_fps
        end_s = start_s + (self._settings.duration_s or math.inf)
        sampled = -1  # the interval of 1/sample_fps that the latest frame was in
        while (picture := self._reader.read()) is not None and picture.time_s < end_s:
            if sample_fps:
                interval = math.floor((picture.time_s - start_s) * sample_fps + SAME_TIME)
                if interval <= sampled:  # not the first one in it
                    continue
                sampled = interval
            yield picture


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
