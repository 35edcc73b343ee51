"""Opens the source that is asked for; a file can be played several times."""

import math
from collections.abc import Callable

import msgspec

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import MAX_BYTES, Reader, TimedFrame
from stages.capture.spec import CaptureSettings


def open_reader(spec: SourceSpec, settings: CaptureSettings, max_bytes: int = MAX_BYTES) -> Reader:
    """Open a source, whose pictures may have so many bytes. Raises UserError if it does not open or has no
    frame."""
    # Each form is imported when it is needed, and no sooner: OpenCV and PyAV take time to load.
    if spec.form == "camera":
        from stages.capture.sources.camera import CameraReader

        return CameraReader(spec, settings)
    if spec.form == "stream":
        from stages.capture.sources.stream import open_stream

        opened = open_stream(spec, settings, max_bytes)
        if opened.info.kind == "live":
            return opened
        return RepeatingReader(lambda: open_stream(spec, settings, max_bytes), settings, opened)
    if spec.form in ("video", "pipe"):
        from stages.capture.sources.video import VideoReader, open_file, open_pipe

        opening = open_pipe if spec.form == "pipe" else open_file
        return RepeatingReader(
            lambda: VideoReader(opening(spec, max_bytes), spec, settings, max_bytes), settings
        )
    if spec.form == "folder":
        from stages.capture.sources.images import FolderReader

        return RepeatingReader(lambda: FolderReader(spec, max_bytes, settings.start_s), settings)
    if spec.form == "browser":
        raise UserError(f"source {spec.text!r}: visitors' cameras come by the web page of a run alone")
    from stages.capture.sources.demo import DemoReader

    return RepeatingReader(lambda: DemoReader(spec, settings.start_s), settings)


class RepeatingReader:
    """A reader that is opened again at its end, or after `capture.duration_s`.

    Frames are numbered on and their times grow on.
    """

    def __init__(
        self, reopen: Callable[[], Reader], settings: CaptureSettings, opened: Reader | None = None
    ) -> None:
        """`opened`: the source; without it, it is opened at once, with the errors of doing so."""
        self._reopen = reopen
        self._reader = opened or reopen()
        self.info = msgspec.structs.replace(self._reader.info, frames=_announced(self._reader.info, settings))
        self._left = settings.repeat - 1 if settings.repeat else None
        self._frames_left = settings.max_frames or None
        self._start_s = settings.start_s
        self._end_s = settings.start_s + settings.duration_s if settings.duration_s else math.inf
        self._offset_s = 0.0
        self._last_s = 0.0
        self._step_s = 1 / self.info.fps if self.info.fps else 1.0
        self._read_in_pass = 0

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
        """The next picture of this pass; None at its end, or where no more of it is wanted."""
        picture = self._reader.read()
        return None if picture is None or picture.time_s >= self._end_s else picture

    def _begin_again(self) -> None:
        self._reader.close()
        self._reader = self._reopen()
        self._offset_s = self._last_s + self._step_s - self._start_s
        self._read_in_pass = 0
        if self._left is not None:
            self._left -= 1


def _announced(info: SourceInfo, settings: CaptureSettings) -> int:
    """Return how many frames there should be in all passes; 0 if that is not known."""
    frames = info.frames
    if frames and settings.duration_s:
        frames = min(frames, math.ceil(settings.duration_s * (info.fps or 1.0)))
    if frames and not settings.repeat:
        return settings.max_frames
    frames *= settings.repeat
    return min(frames, settings.max_frames or frames)
