"""Video files, read with PyAV, which tells a file that was cut off from one that has ended; their decoding.

A bare stream (.h264) does not say how long it is: of one, only what the decoder can't read is noticed.
"""

import contextlib
import heapq
import math
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Discard, Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from pipeline.wire.assignment import STDIN_VARIABLE
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import BYTES_PER_PIXEL, SourceFailed, TimedFrame, say_once, too_large
from stages.capture.spec import CaptureSettings

PICTURES: Final = Disposition.attached_pic | Disposition.timed_thumbnails
"""Cover art and thumbnails, which containers list among their videos."""


def limits(max_bytes: int) -> dict[str, str]:
    """Return the options that keep FFmpeg from allocating larger pictures, at any time in a video."""
    return {"max_pixels": str(max_bytes // BYTES_PER_PIXEL)}


def choose_stream(container: InputContainer, wanted: int | None, name: str) -> av.VideoStream:
    """Return the video to play; the others are not read. Cover art does not count.

    wanted: its number among the videos, from 0. None: the largest of those marked as default, or else of all;
    of several the first. Raises UserError if there is none.
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
    """The decoder of a video stream. `refused`: why its pictures are too large by their header, else ""."""

    def __init__(self, stream: av.VideoStream, threads: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reformatter = VideoReformatter()
        self._pixel_ratio = float(stream.sample_aspect_ratio or 1)
        context = stream.codec_context
        context.thread_count = threads
        context.options = limits(max_bytes)
        self.refused = self._refused(context.width, context.height)

    def picture(self, frame: av.VideoFrame, time_s: float) -> TimedFrame:
        """Return the frame in BGR, upright and with square pixels; if it is too large, only the reason."""
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
        """Return the size in square pixels: one side is enlarged, so that no detail is lost."""
        if self._pixel_ratio > 1:
            return _stretched(width, self._pixel_ratio), height
        return width, _stretched(height, 1 / self._pixel_ratio)


def _stretched(side: int, ratio: float) -> int:
    """Return the enlarged side, even if it was even: recordings are smaller and faster then."""
    step = 1 if side % 2 else 2
    return side if ratio == 1 else step * round(side * ratio / step)


def upright(image: NDArray[Any], frame: av.VideoFrame) -> NDArray[Any]:
    """Return the picture turned by quarters and mirrored as the frame's display matrix says."""
    side_data: Any = frame.side_data
    matrix = side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return image
    # A point (x, y) is shown at (a·x + c·y, b·x + d·y).
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


NO_VIDEO: Final = ("tty", "image2", "concat", "hls", "dash")
"""FFmpeg's formats that show text as video, or open files that the user has not named."""

PLAYLIST_SUFFIXES: Final = (".m3u8", ".m3u")
PLAYLIST_PROTOCOLS: Final = "file,crypto,data,http,https,tcp,tls"

COUNT_TOLERANCE: Final = 1
"""Frames that a container may count but not show, such as one before an edit list's start."""

TAG_TOLERANCE_S: Final = 0.1
"""Tolerance where the video stream's own duration is known: the last frame may be shown longer."""

MOST_BROKEN: Final = 1000
"""Broken parts after which reading stops: a demuxer does not recover from that many."""

DURATION_TOLERANCE_S: Final = 0.5
"""Tolerance where only the container's duration is known, which includes the sound."""

SEEK_MARGIN_S: Final = 10.0
"""How long before the start reading begins: seeking without an index may be seconds off, and a decoder needs
a key frame first."""

HEIC: Final = "a HEIC picture, which neither Pillow nor OpenCV reads; convert it to JPEG"
KNOWN_HEADS: Final = {
    b"PK\3\4": "a zip archive; unpack it and name the folder",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it and name the folder",
    b"Rar!": "a rar archive; unpack it and name the folder",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file, such as a model; models belong to classify.model",
}


def open_video(spec: SourceSpec, settings: CaptureSettings, max_bytes: int) -> "VideoReader":
    """Open a file or standard input. Raises UserError unless it has a video that can be decoded."""
    container = open_pipe(spec, max_bytes) if spec.form == "pipe" else open_file(spec, max_bytes)
    return VideoReader(container, spec, settings, max_bytes)


def open_file(spec: SourceSpec, max_bytes: int) -> InputContainer:
    """Open a file. Raises UserError, which says what the file is, if there is no video in it."""
    path = Path(spec.text).absolute()  # FFmpeg takes the `12:` of 12:30.mp4 for a protocol
    if not path.is_file():
        raise UserError(
            "not a file that can be read again; a video is expected. "
            "What comes through a pipe is read from standard input: --source - < PIPE"
        )
    try:
        with path.open("rb") as file:
            what = what_it_is(file.read(64))
    except OSError as error:
        raise UserError(error.strerror) from error
    if what:
        raise UserError(f"{what}; a video file is expected")
    listed = path.suffix.lower() in PLAYLIST_SUFFIXES
    options = {"protocol_whitelist": PLAYLIST_PROTOCOLS if listed else "file"} | limits(max_bytes)
    try:
        container = av.open(str(path), options=options)
    except av.FFmpegError as error:
        raise UserError(f"not a video that can be read: {error.strerror}") from error
    if container.format.name in NO_VIDEO and not (listed and container.format.name == "hls"):
        container.close()
        raise UserError("no video in it; a video file is expected")
    if listed and container.duration is None:
        container.close()
        raise UserError("a playlist that is still being written; give its http:// address")
    return container


def open_pipe(spec: SourceSpec, max_bytes: int) -> InputContainer:
    """Open the command line's standard input, once. Raises UserError if it has no video."""
    number = os.environ.pop(STDIN_VARIABLE, "")
    if not number:
        raise UserError("standard input can be read only once, and from its first byte")
    if os.isatty(int(number)):
        raise UserError("standard input is a terminal; pipe a video into it: … | run.py --source -")
    # In a redirected file FFmpeg can seek, which an .mp4 with its index at the end needs.
    file = stat.S_ISREG(os.fstat(int(number)).st_mode) and Path(f"/dev/fd/{number}").exists()
    name, protocol = (f"/dev/fd/{number}", "file") if file else (f"pipe:{number}", "pipe")
    try:
        return av.open(name, options={"protocol_whitelist": protocol} | limits(max_bytes))
    except (av.FFmpegError, OSError) as error:
        raise UserError(
            f"what comes on standard input can't be read as a video: {error.strerror}; an .mp4 "
            "needs its index in front (ffmpeg -movflags faststart), .mkv and .ts can always be piped"
        ) from error


def what_it_is(head: bytes) -> str:
    """Return what a file is, by its first bytes, if it is of a kind often named by mistake; else ""."""
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return HEIC
    return next((what for magic, what in KNOWN_HEADS.items() if head.startswith(magic)), "")


class Packets:
    """The packets of a video; broken ones are counted and skipped."""

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        self._demuxer = self._demux()
        self.broken = 0  # parts that can't be read or decoded, or only in part
        self.unread = ""  # why it can't be read to its end
        self.hidden = 0  # frames that an edit list leaves out: decoded only for those that follow
        self.torn = False  # the last packet is shorter than it should be, even if it can be decoded
        self.sound_end_s = 0.0  # how far the sound reaches

    def _demux(self) -> "Iterator[av.Packet[Any]]":
        return self._container.demux(self._stream, *self._container.streams.audio)

    def __iter__(self) -> "Iterator[av.Packet[av.VideoStream]]":
        while self.broken < MOST_BROKEN:
            try:
                packet = next(self._demuxer, None)
            except av.InvalidDataError:
                self.broken += 1
                self._demuxer = self._demux()  # continues after the broken packet
                continue
            except av.FFmpegError as error:
                silent = isinstance(error, av.ExitError)
                self.unread = "no answer any more" if silent else error.strerror or "no reason is given"
                return
            if packet is None:
                return
            if packet.stream.index == self._stream.index:
                if packet.size:  # empty packets flush the decoder
                    self.hidden += packet.is_discard
                    self.torn = packet.is_corrupt
                    self.broken += packet.is_corrupt
                yield packet
            elif packet.pts is not None and packet.time_base is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.sound_end_s = max(self.sound_end_s, end_s)


class VideoReader:
    """Reads a video file once."""

    def __init__(
        self, container: InputContainer, spec: SourceSpec, settings: CaptureSettings, max_bytes: int
    ) -> None:
        """Raise UserError, and close the container, unless the first frame of a video can be decoded."""
        self._name = spec.name
        self._container = container
        self._start_s = settings.start_s
        try:
            self._open(spec, settings, max_bytes)
        except UserError:
            container.close()
            raise

    def _open(self, spec: SourceSpec, settings: CaptureSettings, max_bytes: int) -> None:
        self._stream = choose_stream(self._container, spec.stream, spec.name)
        self._decoder = Decoder(self._stream, settings.threads, max_bytes)
        self._origin_s = self._first_time_s()
        self._empty_places = _empty_places(self._container, self._stream)
        self._seek()
        self._packets = Packets(self._container, self._stream)
        self._read = 0
        self._decoded = 0  # frames, those before the start among them
        self._last_s = 0.0  # place of the last one
        self._places: list[int] = []  # of an AVI's packets whose frames are to come: a heap
        self._frames = self._decode()
        self._ahead = None if self._decoder.refused else next(self._frames, None)
        if self._ahead is None and self._decoded and not self._packets.unread:
            raise UserError(f"it ends after {self._last_s:.1f} s, before --start {self._start_s:g}")
        if self._ahead is None or self._ahead.image is None:
            told = self._ahead.reason if self._ahead else self._decoder.refused
            raise UserError(
                told or "no frame of it can be decoded, or it is too large; is the file complete?"
            )
        height, width = self._ahead.image.shape[:2]
        fps = float(self._stream.average_rate or 0)
        self.info = SourceInfo(spec.name, "file", width, height, fps, self._announced(fps))

    def read(self) -> TimedFrame | None:
        picture, self._ahead = self._ahead, None
        picture = picture or next(self._frames, None)
        if picture is None:
            self._check_complete()
            return None
        self._read += 1
        return picture

    def close(self) -> None:
        self._frames.close()  # type: ignore[attr-defined]
        self._container.close()

    def _decode(self) -> Iterator[TimedFrame]:
        """Yield all frames that can be decoded."""
        for packet in self._packets:
            place = packet.dts if self._container.format.name == "avi" and packet.size else None
            if place is not None:
                heapq.heappush(self._places, place)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._packets.broken += 1
                if place is not None:
                    self._places.remove(place)
                    heapq.heapify(self._places)
                continue
            for frame in frames:
                self._last_s = self._time_s(frame)
                self._decoded += 1
                if self._last_s < self._start_s:
                    self._packets.broken = 0  # damage before the start does not matter
                    continue
                self._packets.broken += frame.is_corrupt
                yield self._decoder.picture(frame, self._last_s)

    def _first_time_s(self) -> float:
        """Return when the clip's picture or sound begins by its own clock: second 0, as in players."""
        start_time: Any = self._container.start_time  # None where it is not known
        if start_time is not None:
            return float(start_time / av.time_base)
        return float((self._stream.start_time or 0) * (self._stream.time_base or 0))

    def _seek(self) -> None:
        """Seek to well before the start where possible; the rest is decoded and discarded."""
        place_s = self._start_s - SEEK_MARGIN_S
        if place_s > 0 and self._container.duration is not None and self._stream.start_time is not None:
            with contextlib.suppress(av.FFmpegError):
                self._container.seek(round((self._origin_s + place_s) * av.time_base))

    def _time_s(self, frame: av.VideoFrame) -> float:
        if self._places:  # AVI numbers packets in decoding order: the next frame has the lowest left
            place_s = float(heapq.heappop(self._places) * (self._stream.time_base or 0))
            return max(0.0, place_s - self._origin_s)
        if frame.pts is not None:
            return max(0.0, frame.time - self._origin_s)
        return self._decoded / float(self._stream.average_rate or 25)

    def _check_complete(self) -> None:
        """Raise SourceFailed if the container promised more than there was, or parts were broken."""
        packets = self._packets
        if packets.unread:
            raise SourceFailed(f"{self._name}: it can't be read any further: {packets.unread}")
        counted = self._counted() if not self._start_s else 0
        missing = counted - self._read
        if counted and missing > COUNT_TOLERANCE:
            raise SourceFailed(f"{self._name}: cut off or damaged: {missing} of {counted} frames are missing")
        if not counted:
            self._check_duration()
        if packets.torn:
            raise SourceFailed(f"{self._name}: cut off: its last frame is incomplete")
        if packets.broken:
            raise SourceFailed(f"{self._name}: damaged: {packets.broken} parts of it are broken or too large")

    def _counted(self) -> int:
        """Return how many frames the container says that it shows, 0 if it does not say."""
        counted, index = self._stream.frames, self._stream.index_entries
        if "mp4" in self._container.format.name:  # its index has no frames that an edit list leaves out
            counted = min(counted, len(index))
        return max(0, counted - self._packets.hidden - self._empty_places)

    def _announced(self, fps: float) -> int:
        """Frames from the start on that there should be, by their number or by the duration; 0: unknown."""
        duration_s = _tagged_duration_s(self._stream) or (self._container.duration or 0) / av.time_base
        frames = self._counted() or round(duration_s * fps)
        return max(0, frames - math.floor(self._start_s * fps))

    def _check_duration(self) -> None:
        """Raise SourceFailed if neither picture nor sound reaches the duration that the container says."""
        tagged_s = _tagged_duration_s(self._stream)
        duration_s = tagged_s or (self._container.duration or 0) / av.time_base
        if not duration_s or not self.info.fps:
            return
        # Matroska's duration counts from 0 and not from the first frame.
        end_s = self._last_s + max(0.0, self._origin_s) + 1 / self.info.fps
        missing_s = duration_s - (end_s if tagged_s else max(end_s, self._packets.sound_end_s))
        if missing_s > (TAG_TOLERANCE_S if tagged_s else DURATION_TOLERANCE_S):
            raise SourceFailed(f"{self._name}: cut off: {missing_s:.1f} of {duration_s:.1f} s are missing")


def _empty_places(container: InputContainer, stream: av.VideoStream) -> int:
    """Return how many frames an AVI counts without data, which were dropped when it was recorded.

    They are known from the index at its end; without one, 0.
    """
    entries = stream.index_entries
    if container.format.name != "avi" or not len(entries):
        return 0
    whole = entries[len(entries) - 1].timestamp >= stream.frames - 1 - COUNT_TOLERANCE
    return max(0, stream.frames - len(entries)) if whole else 0


def _tagged_duration_s(stream: av.VideoStream) -> float:
    """Return the video's own duration, s, which Matroska has as "00:01:02.500000000"; 0 if not known."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0
