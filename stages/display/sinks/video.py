"""The recordings of a run, one video for each source."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, NoReturn

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from stages.display.drawing import fit_into
from stages.display.output_file import OutputFailed, OutputFile, Patience
from stages.display.sinks.sink import Image, Opening, Outcome, Sink

CLOCK: Final = Fraction(1, 90_000)
"""Time base, s: exact for the usual rates, 25, 29.97 and 12.5 among them."""

UNKNOWN_FPS: Final = 25
"""Nominal rate for a source that does not tell its own; frames still have their own times."""

FRAGMENT_S: Final = 0.5
"""Length of a fragment, which begins with a key frame: a killed process loses the last, incomplete one."""

# At 640×480, ultrafast takes 0.8 of superfast's time for 1.3 of its size at the same PSNR; cores are scarcer
# than space.
_CODEC: Final = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
_CONTAINERS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    ".mkv": ("matroska", {"cluster_time_limit": str(round(1000 * FRAGMENT_S)), "flush_packets": "1"}),
    ".mp4": (
        "mp4",
        {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
    ),
}
_BT601: Final = 5  # AVCOL_SPC_BT470BG, the colour space of the frames: written so that players need not guess


def recording_path(path: str, number: int) -> Path:
    """Return the file of the recording `number`, from 1: out.mkv, out-2.mkv, …"""
    first = Path(path)
    return first.with_stem(f"{first.stem}-{number}") if number > 1 else first


def next_segment(path: Path) -> Path:
    """Return the path where another process continues a recording: out.part2.mkv, …

    A path whose file has no frame counts as free.
    """
    return next(free for free in _segments(path) if not _plays(free))


def remove_parts(path: Path) -> None:
    """Remove the further segments of an earlier recording of the same name."""
    for part in itertools.takewhile(Path.exists, itertools.islice(_segments(path), 1, None)):
        part.unlink()


def _segments(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}.part{number}")


def _plays(path: Path) -> bool:
    """Return whether a file has a frame: that of a process killed at once may have none."""
    try:
        with av.open(path) as container:
            return bool(container.streams.video) and any(p.size for p in container.demux(video=0))
    except (OSError, av.FFmpegError):
        return False


class Recording:
    """The recording of one source."""

    def __init__(self, path: Path, patience: Patience, on_begin: Callable[[], None] | None) -> None:
        """Open the file; its content stays until the first frame, when `on_begin` is called.

        None: this run began the recording, and a new segment continues it. Raises UserError if it can't be
        written.
        """
        self._on_begin = on_begin
        self._path = path if on_begin is not None else next_segment(path)
        # Unbuffered: what the muxer has written survives a kill.
        self._file = OutputFile("recording", self._path, patience)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last_pts = -1
        self._next_key_pts = 0
        self._frame_ticks = 1

    def write(self, image: Image, time_s: float, fps: float) -> None:
        """Add a frame, uint8 BGR (height, width, 3), at `time_s` of the video; `fps` 0 is unknown.

        The first frame decides the size; another is fitted into it, with black bars. Raises OutputFailed.
        """
        try:
            stream = self._stream or self._begin(image.shape[1], image.shape[0], fps)
            if image.shape[:2] != (stream.height, stream.width):
                other, image = image, np.zeros((stream.height, stream.width, 3), np.uint8)
                fit_into(image, other)
            frame = _to_frame(image)
            frame.pts = self._next_pts(time_s)
            frame.time_base = CLOCK
            if frame.pts >= self._next_key_pts:  # by time: the true rate may be far from the nominal one
                frame.pict_type = PictureType.I
                self._next_key_pts = frame.pts + round(FRAGMENT_S / CLOCK)
            self._mux(frame)
        except (OSError, av.FFmpegError, OutputFailed) as error:
            self._fail(error)

    def check(self) -> None:
        """Raise OutputFailed if the file is no longer where it was."""
        self._file.check()

    def close(self) -> None:
        """Complete the file. One without a frame was never begun. Raises OutputFailed."""
        if self._file.closed:
            return
        try:
            if self._container is not None:
                self._mux(None)
                self._container.close()
            self._file.close()
        except (OSError, av.FFmpegError, OutputFailed) as error:
            self._fail(error)

    def discard(self) -> None:
        """Remove the file of a run without a frame: what is in it is an earlier run's. Raises
        OutputFailed."""
        self._file.close()
        try:
            self._path.unlink(missing_ok=True)
            if self._on_begin is not None:
                remove_parts(self._path)
        except OSError as error:
            raise OutputFailed("recording", self._path, error) from error

    @property
    def begun(self) -> bool:
        return self._stream is not None

    def _fail(self, error: Exception) -> NoReturn:
        """Close the file without a trailer, which could not be written either: it plays as far as it goes."""
        self._container, self._stream = None, None
        with contextlib.suppress(OutputFailed):
            self._file.close()
        if isinstance(error, OutputFailed):
            raise error
        raise OutputFailed("recording", self._path, error) from error

    def _begin(self, width: int, height: int, fps: float) -> VideoStream:
        self._file.begin()
        if self._on_begin is not None:
            remove_parts(self._path)
            self._on_begin()
        kind, options = _CONTAINERS[self._path.suffix.lower()]
        rate = Fraction(fps or UNKNOWN_FPS).limit_denominator(1001)
        self._frame_ticks = max(1, int(1 / (rate * CLOCK)))
        container = av.open(self._file, "w", format=kind, options=options)
        stream = container.add_stream("libx264", rate=rate, options=_CODEC)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if _even(width, height) else "yuv444p"
        context = stream.codec_context
        context.time_base = CLOCK
        context.thread_count = 1  # more would fight with detection and classification for the cores
        context.colorspace = _BT601
        context.color_range = 1  # "tv", 16 to 235
        self._container, self._stream = container, stream
        return stream

    def _next_pts(self, time_s: float) -> int:
        """Return the time in ticks, or a frame after the last one if it is not later."""
        pts = round(time_s / CLOCK)
        if pts <= self._last_pts:
            pts = self._last_pts + self._frame_ticks
        self._last_pts = pts
        return pts

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None and self._stream is not None
        self._container.mux(self._stream.encode(frame))


def _even(width: int, height: int) -> bool:
    return width % 2 == height % 2 == 0


def _to_frame(image: Image) -> av.VideoFrame:
    """Return the picture in the encoder's format where OpenCV can convert it, 4 times faster than FFmpeg."""
    if _even(image.shape[1], image.shape[0]):
        planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")
    return av.VideoFrame.from_ndarray(image, format="bgr24")


class Recordings(Sink):
    """A recording for each source: out.mkv, out-2.mkv, …"""

    wants_pixels = True

    def __init__(self, run: Opening) -> None:
        """Open a file for each source; where sources are captured elsewhere, their names come later.

        A recording that a process before this one has begun is continued in a new segment. Raises UserError.
        """
        self._path, self._patience, self._checkpoint = run.settings.record, run.patience, run.checkpoint
        self._begun = dict(run.checkpoint.state.recordings)
        self._numbered = max(len(run.sources), len(self._begun))
        self._open: dict[str, Recording] = {}
        with contextlib.ExitStack() as opened:
            opened.callback(self.close)
            for number, source in enumerate(run.sources, start=1):
                self._open[source] = self._recording(source, number)
            if not run.sources and not self._begun:
                self._recording("", 1).close()  # it is opened only to check that it can be written
            opened.pop_all()

    def write(self, outcome: Outcome) -> None:
        """Add a frame with its faces drawn: see Recording."""
        if outcome.drawn is None:
            return
        delivery = outcome.delivery
        if delivery.source not in self._open:
            self._numbered += delivery.source not in self._begun
            self._open[delivery.source] = self._recording(delivery.source, self._numbered)
        self._open[delivery.source].write(outcome.drawn, delivery.time_s, delivery.fps)

    def end_source(self, source: str) -> None:
        """Complete the recording of a source that has no more frames. Raises OutputFailed."""
        recording = self._open.get(source)
        if recording is not None and recording.begun:
            recording.check()
            recording.close()

    def check(self) -> None:
        """Raise OutputFailed if a file is no longer where it was."""
        for recording in self._open.values():
            recording.check()

    def complete(self) -> None:
        """Discard recordings without a frame at the end of a run."""
        for recording in self._open.values():
            if not recording.begun:
                recording.discard()

    def close(self) -> None:
        """Complete and close all, even if one of them fails. Raises OutputFailed."""
        with contextlib.ExitStack() as closing:
            for recording in self._open.values():
                closing.callback(recording.close)

    def _recording(self, source: str, number: int) -> Recording:
        if source in self._begun:
            return Recording(Path(self._begun[source]), self._patience, None)
        path = recording_path(self._path, number)

        def begin() -> None:
            self._begun[source] = str(path)
            self._checkpoint.begin(recordings=self._begun)

        return Recording(path, self._patience, begin)
