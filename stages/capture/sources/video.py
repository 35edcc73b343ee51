"""Video files, read with PyAV, which tells a file that was cut off from one that has ended.

A bare stream (.h264) says nothing about its length: in one, only what the decoder stumbles over is noticed.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import Decoder, SourceFailed, TimedFrame, limits

NO_VIDEO: Final = ("tty", "image2", "concat", "hls", "dash")
"""Formats of FFmpeg that would take a text for a video, or open files that the user has not named."""

COUNT_TOLERANCE: Final = 1
"""Frames that a container may count and not show, as its first one before an edit list does."""

TAG_TOLERANCE_S: Final = 0.1
"""Where the duration of the video stream is known: a last frame may be shown longer than the others."""

MOST_BROKEN: Final = 1000
"""Parts of a video: a demuxer that meets more has lost its way for good."""

DURATION_TOLERANCE_S: Final = 0.5
"""Where only the duration of the whole is known, which sound may stretch."""


class VideoReader:
    """Reads a video file once."""

    def __init__(self, spec: SourceSpec, threads: int, max_bytes: int) -> None:
        """Raises UserError unless there is a video in the file whose first frame can be decoded."""
        self._name = spec.name
        if not Path(spec.text).is_file():
            raise UserError(f"source {spec.text!r}: not a file that can be read again; a video is expected")
        options = {"protocol_whitelist": "file"} | limits(max_bytes)
        try:
            # Absolute, since FFmpeg would take `12:` of 12:30.mp4 for a protocol.
            self._container = av.open(str(Path(spec.text).absolute()), options=options)
        except av.FFmpegError as error:
            raise UserError(
                f"source {spec.text!r}: not a video that can be read: {error.strerror}"
            ) from error
        except OSError as error:
            raise UserError(f"source {spec.text!r}: {error.strerror}") from error
        if not self._container.streams.video or self._container.format.name in NO_VIDEO:
            self._container.close()
            raise UserError(f"source {spec.text!r}: no video in it; a video file is expected")
        self._stream = self._container.streams.video[0]
        self._decoder = Decoder(self._stream, threads, max_bytes)
        self._packets = self._container.demux(self._stream)
        self._broken = 0  # parts that can't be read or decoded, or only in part
        self._unread = ""  # why it can't be read to its end
        self._hidden = 0  # frames that an edit list leaves out: decoded only for those that follow
        self._torn = False  # the last packet is shorter than it should be, even if it can be decoded
        self._read = 0
        self._last_s = 0.0
        self._frames = self._decode()
        self._ahead = None if self._decoder.refused else self._decode_next()
        if self._ahead is None or self._ahead.image is None:
            told = self._ahead.reason if self._ahead else self._decoder.refused
            self._container.close()
            reason = told or "no frame of it can be decoded, or it is too large; is the file complete?"
            raise UserError(f"source {spec.text!r}: {reason}")
        height, width = self._ahead.image.shape[:2]
        fps = float(self._stream.average_rate or 0)
        self.info = SourceInfo(spec.name, "file", width, height, fps)

    def read(self) -> TimedFrame | None:
        picture, self._ahead = self._ahead, None
        picture = picture or self._decode_next()
        if picture is None:
            self._check_complete()
            return None
        self._read += 1
        self._last_s = picture.time_s
        return picture

    def close(self) -> None:
        self._frames.close()  # type: ignore[attr-defined]
        self._container.close()

    def _decode_next(self) -> TimedFrame | None:
        return next(self._frames, None)

    def _decode(self) -> Iterator[TimedFrame]:
        """Yield all frames that can be decoded; a broken packet does not end the video."""
        number = 0
        while (packet := self._next_packet()) is not None:
            if packet.size:  # not the one that asks the decoder for what it holds back
                self._hidden += packet.is_discard
                self._torn = packet.is_corrupt
                self._broken += packet.is_corrupt
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._broken += 1
                continue
            for frame in frames:
                self._broken += frame.is_corrupt
                yield self._decoder.picture(frame, self._time_s(frame, number))
                number += 1

    def _next_packet(self) -> "av.Packet[av.VideoStream] | None":
        while self._broken < MOST_BROKEN:
            try:
                return next(self._packets, None)
            except av.InvalidDataError:
                self._broken += 1
                self._packets = self._container.demux(self._stream)  # goes on behind it
            except av.FFmpegError as error:
                self._unread = error.strerror or "no reason is given"
                break
        return None

    def _time_s(self, frame: av.VideoFrame, number: int) -> float:
        if frame.time is not None and self._stream.start_time is not None:
            return max(0.0, frame.time - float(self._stream.start_time * (self._stream.time_base or 0)))
        return number / float(self._stream.average_rate or 25)

    def _check_complete(self) -> None:
        """Raise SourceFailed if the container promised more than there was, or parts were broken."""
        if self._unread:
            raise SourceFailed(f"{self._name}: it can't be read any further: {self._unread}")
        counted = self._counted()
        missing = counted - self._read
        if counted and missing > COUNT_TOLERANCE:
            raise SourceFailed(f"{self._name}: cut off or damaged: {missing} of {counted} frames are missing")
        if not counted:
            self._check_duration()
        if self._torn:
            raise SourceFailed(f"{self._name}: cut off: its last frame is incomplete")
        if self._broken:
            raise SourceFailed(f"{self._name}: damaged: {self._broken} parts of it are broken or too large")

    def _counted(self) -> int:
        """Frames that the container says it shows; 0 if it does not say."""
        counted = self._stream.frames
        if "mp4" in self._container.format.name:  # its index, less what an edit list cuts off, is read first
            counted = min(counted, len(self._stream.index_entries))
        return max(0, counted - self._hidden)

    def _check_duration(self) -> None:
        tagged_s = _tagged_duration_s(self._stream)
        duration_s = tagged_s or (self._container.duration or 0) / av.time_base
        if not duration_s or not self.info.fps:
            return
        missing_s = duration_s - self._last_s - 1 / self.info.fps
        if missing_s > (TAG_TOLERANCE_S if tagged_s else DURATION_TOLERANCE_S):
            raise SourceFailed(f"{self._name}: cut off: {missing_s:.1f} of {duration_s:.1f} s are missing")


def _tagged_duration_s(stream: av.VideoStream) -> float:
    """The duration of the video alone, in which Matroska says it ("00:01:02.500000000"); 0 if not said."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0
