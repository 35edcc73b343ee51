"""Network streams, read with PyAV: its time-outs hold, and its errors say what is wrong."""

import time
from typing import Final

import av

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec, without_credentials
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import Decoder, SourceFailed, TimedFrame, limits
from stages.capture.spec import CaptureSettings

TIMEOUT_S: Final = 4.0
"""To connect, to find the video, and for each picture: decoding begins with a whole one, every 1 to 4 s."""

STALLED_SHARE: Final = 0.95
"""Of the time-out. What comes with its end is no sign of life, but a picture that FFmpeg still held."""

OPTIONS: Final = {
    "rtsp_transport": "tcp",  # over udp, lost packets become grey smears in pictures that pass for whole
    "protocol_whitelist": "tcp,tls,udp,rtp,srtp,http,https,httpproxy,crypto",  # no file of this machine
}


class StreamReader:
    """Gives the frames as they come; `read` waits for the next one."""

    def __init__(self, spec: SourceSpec, settings: CaptureSettings, max_bytes: int) -> None:
        """Raises UserError unless the stream opens and gives a frame."""
        self._name = spec.name
        self._start_s = time.monotonic()
        failed = f"source {without_credentials(spec.text)!r}: this stream does not open"
        try:
            self._container = av.open(spec.text, options=OPTIONS | limits(max_bytes), timeout=TIMEOUT_S)
        except av.FFmpegError as error:
            raise UserError(f"{failed}: {_why(error)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise UserError(f"{failed}: no video in it")
        stream = self._container.streams.video[0]
        self._decoder = Decoder(stream, settings.threads, max_bytes)
        self._packets = self._container.demux(stream)
        self._frames: list[av.VideoFrame] = []
        try:
            width, height = self._first_size()
        except SourceFailed as error:
            self.close()
            reason = str(error).removeprefix(f"{self._name}: ")
            raise UserError(f"{failed}: {reason}") from error
        fps = float(stream.average_rate or 0)
        self.info = SourceInfo(spec.name, "live", width, height, fps if 0 < fps <= 1000 else 0.0)

    def read(self) -> TimedFrame:
        began_s = time.monotonic()
        broken = ""
        while not self._frames:
            packet = self._next_packet()
            if packet is not None:
                try:
                    self._frames.extend(packet.decode())
                except av.FFmpegError as error:
                    broken = f": what comes can't be decoded, or is too large ({error.strerror})"
            waited_s = time.monotonic() - began_s
            if packet is None or waited_s >= STALLED_SHARE * TIMEOUT_S:
                raise SourceFailed(f"{self._name}: no picture for {waited_s:.1f} s{broken}")
        return self._decoder.picture(self._frames.pop(0), time.monotonic() - self._start_s)

    def close(self) -> None:
        self._packets.close()  # type: ignore[attr-defined]
        self._container.close()

    def _first_size(self) -> tuple[int, int]:
        """Width and height, px. Raises SourceFailed if there is no picture, or one that is too large."""
        if self._decoder.refused:
            raise SourceFailed(self._decoder.refused)
        first = self.read()
        if first.image is None:
            raise SourceFailed(first.reason)
        return first.image.shape[1], first.image.shape[0]

    def _next_packet(self) -> "av.Packet[av.VideoStream] | None":
        """None if none came in time. Raises SourceFailed if the stream is over."""
        try:
            packet = next(self._packets, None)
        except av.ExitError:
            return None
        except av.FFmpegError as error:
            raise SourceFailed(f"{self._name}: no picture comes any more: {error.strerror}") from error
        if packet is None:
            raise SourceFailed(f"{self._name}: no picture comes any more")
        return packet


def _why(error: av.FFmpegError) -> str:
    timed_out = isinstance(error, av.ExitError)
    return f"no answer for {TIMEOUT_S:.0f} s" if timed_out else str(error.strerror)
