"""From a container to pictures: which of its videos is played, and how its frames become BGR and upright."""

import functools
import logging
import struct
from typing import Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Discard, Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from stages.capture.reader import BYTES_PER_PIXEL, TimedFrame, too_large

PICTURES: Final = Disposition.attached_pic | Disposition.timed_thumbnails
"""Cover art and thumbnails: streams that come as videos and are none."""

log = logging.getLogger(__name__)


@functools.cache
def say_once(line: str) -> None:
    """Tell the user something of a source, though it is opened again and again."""
    log.info("%s", line)


def limits(max_bytes: int) -> dict[str, str]:
    """What keeps FFmpeg itself from making room for larger pictures, the first and all that follow."""
    return {"max_pixels": str(max_bytes // BYTES_PER_PIXEL)}


def choose_stream(container: InputContainer, wanted: int | None, name: str) -> av.VideoStream:
    """Return the video that is played; the others are not read. Cover art does not count.

    wanted: its number among the videos, from 0. None: of those that are marked as default, or else of all,
    the largest, of several the first. Raises UserError, without the source, if there is none.
    """
    videos = [stream for stream in container.streams.video if not stream.disposition & PICTURES]
    if not videos:
        cover = "; its only picture is a cover" if container.streams.video else ""
        raise UserError(f"no video in it{cover}; a video file is expected")
    sizes = [f"#{number} {_size(stream)}" for number, stream in enumerate(videos)]
    if wanted is not None and wanted >= len(videos):
        raise UserError(f"no video #{wanted} in it; it has {', '.join(sizes)}")
    if wanted is None:
        marked = [stream for stream in videos if stream.disposition & Disposition.default] or videos
        chosen = max(marked, key=lambda stream: stream.codec_context.width * stream.codec_context.height)
        if len(videos) > 1:
            number = videos.index(chosen)
            said = f"{name}: {len(videos)} videos: {', '.join(sizes)}; #{number} is played"
            say_once(f"{said}, {name}#{number + 1 if number + 1 < len(videos) else 0} would be another")
    else:
        chosen = videos[wanted]
    for stream in container.streams.video:
        stream.discard = Discard.default if stream is chosen else Discard.all
    return chosen


def _size(stream: av.VideoStream) -> str:
    context = stream.codec_context
    return f"{context.width}×{context.height} {context.name}"


class Decoder:
    """The decoder of a video stream. `refused` says why its pictures are too large, if they claim to be."""

    def __init__(self, stream: av.VideoStream, threads: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reformatter = VideoReformatter()
        self._pixel_ratio = float(stream.sample_aspect_ratio or 1)
        context = stream.codec_context
        context.thread_count = threads
        context.options = limits(max_bytes)
        self.refused = self._refused(context.width, context.height)

    def picture(self, frame: av.VideoFrame, time_s: float) -> TimedFrame:
        """Return the frame in BGR, upright and with square pixels; without pixels, and with the reason, if it
        is too large."""
        reason = self._refused(frame.width, frame.height)
        if reason:
            return TimedFrame(None, time_s, reason=reason)
        width, height = self._shown_size(frame.width, frame.height)
        image = self._reformatter.reformat(frame, width, height, format="bgr24").to_ndarray()
        return TimedFrame(np.ascontiguousarray(upright(image, frame), np.uint8), time_s)

    def _refused(self, width: int, height: int) -> str:
        larger = too_large(width, height, self._max_bytes)
        return larger or too_large(*self._shown_size(width, height), self._max_bytes)

    def _shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size in square pixels: one side is stretched, so that no detail is lost."""
        if self._pixel_ratio > 1:
            return _stretched(width, self._pixel_ratio), height
        return width, _stretched(height, 1 / self._pixel_ratio)


def _stretched(side: int, ratio: float) -> int:
    """Return the longer side, even if it was: recordings are smaller and faster with even sides."""
    step = 1 if side % 2 else 2
    return side if ratio == 1 else step * round(side * ratio / step)


def upright(image: NDArray[Any], frame: av.VideoFrame) -> NDArray[Any]:
    """Return the picture as the frame's display matrix has it shown: turned by quarters, mirrored or both."""
    side_data: Any = frame.side_data
    matrix = side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return image
    # A point (x, y) is shown at (a·x + c·y, b·x + d·y).
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
