"""Network streams, read with PyAV, which keeps its time-outs and says what is wrong.

An http or ftp address may give a file, which has an end; it is read as a file.
"""

import tempfile
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urljoin

import av
from av.container import InputContainer

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import SourceFailed, TimedFrame, say_once
from stages.capture.sources.video import Decoder, VideoReader, choose_stream, limits
from stages.capture.spec import CaptureSettings

TIMEOUT_S: Final = 4.0
"""For connecting, finding the video, and each picture: key frames, which decoding begins with, come every 1
to 4 s."""

SEGMENT_TIMEOUT_S: Final = 12.0
"""For each picture of HLS and DASH, which come in segments of 2 to 10 s."""

FILE_TIMEOUT_S: Final = 30.0
"""For each part of a file, where waiting loses nothing."""

SENDER_TIMEOUT_S: Final = 12.0
"""For a sender that has yet to begin, where this end waits for one."""

FETCH_S: Final = 8.0
"""For fetching a file as a whole before it is read; opening a source may take 15 s in all."""

STALLED_SHARE: Final = 0.95
"""Share of the time-out after which a picture does not count: FFmpeg returns the last one it held when it
expires."""

OPTIONS: Final = {
    # Over udp, lost packets leave grey smears that are not reported; some cameras have nothing else.
    "rtsp_transport": "tcp+udp",
    "rtsp_flags": "prefer_tcp",
    # None of this machine's files.
    "protocol_whitelist": "tcp,tls,udp,rtp,srtp,srt,http,https,httpproxy,crypto,data,ftp,rtmp,rtmps,rtmpt,"
    "ffrtmphttp",
}
FILE_OPTIONS: Final = {"reconnect": "1", "reconnect_delay_max": "4"}  # a broken connection continues there
LISTENS: Final = "?listen=1"
MAY_BE_FILES: Final = ("http", "https", "ftp")
SEGMENTED: Final = ("hls", "dash")
NO_END: Final = ("mpjpeg", "image2pipe")
TEXTS: Final = ("tty", "concat")  # FFmpeg would show the text, or take it for a list of files
FAILED: Final = "this stream does not open"
NO_VIDEO: Final = (
    "no video comes from there; of a web page with a player, give the address of the video itself"
)
PLAYLIST_LIMIT: Final = 4 * 1024 * 1024  # bytes: a day of segments takes half of it


def open_stream(spec: SourceSpec, settings: CaptureSettings, max_bytes: int) -> "StreamReader | VideoReader":
    """Open an address. Raises UserError unless it gives a picture."""
    scheme = spec.text.partition(":")[0].lower()
    options = OPTIONS | limits(max_bytes)
    container = _open(spec.text, options, TIMEOUT_S)
    if not container.streams.video or container.format.name in TEXTS:
        container.close()
        raise UserError(f"{FAILED}: {NO_VIDEO}")
    segmented = container.format.name in SEGMENTED
    is_file = scheme in MAY_BE_FILES and _has_end(container, spec.text)
    if not is_file and not segmented:
        return StreamReader(container, spec, settings, max_bytes, TIMEOUT_S)
    # Open it again with the right time-out, which PyAV takes only when it opens.
    container.close()
    if is_file:
        extra = {} if segmented or scheme == "ftp" else FILE_OPTIONS
        container = _open(spec.text, options | extra, FILE_TIMEOUT_S)
        try:
            return VideoReader(container, spec, settings, max_bytes)
        except UserError:
            if "mp4" not in container.format.name or not (copy := _fetched(spec, max_bytes)):
                raise
            return VideoReader(copy, spec, settings, max_bytes)
    container = _open(spec.text, options, SEGMENT_TIMEOUT_S)
    return StreamReader(container, spec, settings, max_bytes, SEGMENT_TIMEOUT_S)


def _open(address: str, options: dict[str, str], timeout_s: float) -> InputContainer:
    scheme, listens = address.partition(":")[0].lower(), address.endswith(LISTENS)
    opening_s = SENDER_TIMEOUT_S if listens or scheme in ("udp", "rtp") else timeout_s
    if listens and scheme == "rtmp":  # FFmpeg looks for it in the addresses of tcp alone
        address, options = address.removesuffix(LISTENS), options | {"listen": "1"}
    try:
        return av.open(address, options=options, timeout=(opening_s, timeout_s))
    except av.FFmpegError as error:
        raise UserError(f"{FAILED}: {_why(error, address, opening_s)}") from error


def _fetched(spec: SourceSpec, max_bytes: int) -> InputContainer | None:
    """Fetch a whole file whose index is at its end, from a server that gives no parts of files.

    Returns None if that takes too long, or it is no video.
    """
    until_s = time.monotonic() + FETCH_S
    with tempfile.NamedTemporaryFile(prefix="emotions-") as file:  # FFmpeg keeps it open once it is removed
        try:
            for part in _parts(spec.text):
                if time.monotonic() > until_s:
                    return None
                file.write(part)
            file.flush()
            say_once(
                f"{spec.name}: fetched as a whole: its index is at its end, and its server gives no parts"
            )
            options = {"protocol_whitelist": "file"} | limits(max_bytes)
            return av.open(file.name, format="mp4", options=options)  # and as nothing else
        except (av.FFmpegError, OSError):
            return None


def _parts(address: str) -> Iterator[bytes]:
    """Yield the bytes behind an address. Raises av.FFmpegError."""
    with av.open(address, format="data", options=OPTIONS, timeout=TIMEOUT_S) as data:
        for packet in data.demux():
            yield bytes(packet)


def _has_end(container: InputContainer, address: str) -> bool:
    """Return whether it is a file: it has a length, or is a playlist that is complete."""
    name = container.format.name
    if name == "hls":
        return container.duration is not None and _is_over(address)
    if name in NO_END:
        return False
    # A camera's endless .flv says that it lasts 0 s.
    return bool(container.duration) or (name not in SEGMENTED and container.size > 0)


def _is_over(address: str) -> bool:
    """Return whether an HLS playlist, or the first one that it lists, is complete and can't grow."""
    for _ in range(2):
        text = b""
        try:
            for part in _parts(address):
                text += part
                if len(text) > PLAYLIST_LIMIT:
                    return False
        except av.FFmpegError:
            return False
        lines = text.decode("utf-8", "replace").splitlines()
        if any(line.startswith("#EXT-X-ENDLIST") for line in lines):
            return True
        listed = [line for line in lines if line and not line.startswith("#")]
        if not listed or not any(line.startswith("#EXT-X-STREAM-INF") for line in lines):
            return False
        address = urljoin(address, listed[0])
    return False


class StreamReader:
    """Reads the frames as they come; `read` waits for the next one."""

    def __init__(
        self,
        container: InputContainer,
        spec: SourceSpec,
        settings: CaptureSettings,
        max_bytes: int,
        timeout_s: float,
    ) -> None:
        """Raise UserError, and close the container, unless the stream gives a frame."""
        self._name = spec.name
        self._start_s = time.monotonic()
        self._container = container
        self._timeout_s = timeout_s
        self._paced = container.format.name in SEGMENTED
        self._play_s: float | None = None  # when time 0 is due, of segments, which come all at once
        try:
            stream = choose_stream(container, spec.stream, spec.name)
            self._decoder = Decoder(stream, settings.threads, max_bytes)
            self._packets = container.demux(stream)
            self._frames: list[av.VideoFrame] = []
            width, height = self._first_size()
        except (SourceFailed, UserError) as error:
            container.close()
            reason = str(error).removeprefix(f"{self._name}: ")
            raise UserError(f"{FAILED}: {reason}") from error
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
            if packet is None or waited_s >= STALLED_SHARE * self._timeout_s:
                raise SourceFailed(f"{self._name}: no picture for {waited_s:.1f} s{broken}")
        frame = self._frames.pop(0)
        if self._paced:
            self._wait_for(frame)
        return self._decoder.picture(frame, time.monotonic() - self._start_s)

    def close(self) -> None:
        self._packets.close()  # type: ignore[attr-defined]
        self._container.close()

    def _first_size(self) -> tuple[int, int]:
        """Return width and height, px. Raises SourceFailed if no picture comes, or one that is too large."""
        if self._decoder.refused:
            raise SourceFailed(self._decoder.refused)
        first = self.read()
        if first.image is None:
            raise SourceFailed(first.reason)
        return first.image.shape[1], first.image.shape[0]

    def _wait_for(self, frame: av.VideoFrame) -> None:
        """Wait until a picture is due by the stream's clock, which is reset by one that is late or far
        ahead."""
        if frame.pts is None:
            return
        now_s = time.monotonic()
        due_s = now_s if self._play_s is None else self._play_s + frame.time
        if now_s <= due_s <= now_s + SEGMENT_TIMEOUT_S / 4:
            time.sleep(due_s - now_s)
            now_s = due_s
        self._play_s = now_s - frame.time

    def _next_packet(self) -> "av.Packet[av.VideoStream] | None":
        """Return the next packet, None if none came in time. Raises SourceFailed if the stream is over."""
        try:
            return next(self._packets)
        except av.ExitError:
            return None
        except StopIteration:
            raise SourceFailed(f"{self._name}: the pictures have stopped") from None
        except av.FFmpegError as error:
            raise SourceFailed(f"{self._name}: the pictures have stopped: {error.strerror}") from error


def _why(error: av.FFmpegError, address: str, timeout_s: float) -> str:
    if isinstance(error, av.ExitError):
        return f"no answer for {timeout_s:.0f} s"
    scheme = address.partition(":")[0].lower()
    if isinstance(error, av.ProtocolNotFoundError):
        return (
            f"the FFmpeg in PyAV's wheel has no {scheme}; let another program pass it on, such as "
            f"ffmpeg -i '{scheme}://…' -c copy -f mpegts - | python run.py --source -"
        )
    if isinstance(error, av.InvalidDataError) and scheme in MAY_BE_FILES:
        return NO_VIDEO
    return str(error.strerror)
