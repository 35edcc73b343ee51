"""The capture process: one source's frames out, against credits."""

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from pipeline.common.errors import UserError
from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.messages import Hello
from pipeline.wire.session import Session
from stages.capture.feed import Feed, FileFeed
from stages.capture.live_feed import LiveFeed, LiveReader, Openings
from stages.capture.reader import Reader, SourceStuck, open_reader
from stages.capture.spec import CaptureOptions
from stages.image_codec import FrameWriter
from stages.worker import who

log = logging.getLogger(__name__)


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Open the source and serve its frames until the run ends."""
    options = msgspec.json.decode(assignment.options, type=CaptureOptions)
    directory, owner = Path(assignment.frames), assignment.name
    writer = FrameWriter(directory, owner) if assignment.frames else None
    suspension = Suspension()
    feed = open_feed(options, assignment.max_message_bytes, writer)
    stop.listen()
    suspension.listen()

    def hello() -> Hello:
        return Hello(*who(assignment), source=feed.info, committed={feed.info.name: feed.committed})

    try:
        with Session(assignment, hello) as session:
            while not stop and not feed.over:
                feed.turn(session)
                if suspension.asked:
                    feed.suspend()
                    suspension.stop_here()
    except SourceStuck as error:
        log.error("%s; this process ends and is started again", error)
        _end_now(1)  # without waiting for the reader, for which the heartbeats would have to pause
    finally:
        closed = feed.close()
    if not closed:
        _end_now(0)
    return 0


class Suspension:
    """Stops this process when the supervisor sends SIGTSTP, which is before it stops the others; not on
    Windows.

    Before `listen` is called, the signal stops the process at once; after it, only `stop_here` does.
    """

    def __init__(self) -> None:
        self.asked = False
        self._listens = False
        if sys.platform != "win32":
            signal.signal(signal.SIGTSTP, self._record)
            signal.signal(signal.SIGCONT, self._record)

    def listen(self) -> None:
        self._listens = True

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.asked = number != signal.SIGCONT
        if not self._listens:
            self.stop_here()

    def stop_here(self) -> None:
        """Stop until SIGCONT, unless that has come already."""
        if sys.platform != "win32" and self.asked:
            self.asked = False
            os.kill(os.getpid(), signal.SIGSTOP)


def _end_now(status: int) -> NoReturn:
    """End the process without the interpreter's shutdown, which may crash under a thread inside a driver."""
    logging.shutdown()
    os._exit(status)


def open_feed(options: CaptureOptions, max_frame_bytes: int, writer: FrameWriter | None = None) -> Feed:
    """Open the source's reader and return its feed. Raises UserError if it does not open or has no frame."""

    def open_once() -> Reader:
        return open_reader(options.source, options.settings, max_frame_bytes)

    openings = Openings()

    def open_live() -> LiveReader:
        return LiveReader(options.source.name, open_once, openings)

    if options.source.form == "browser":
        from stages.capture.sources.browser import VisitorCamera  # which loads Pillow

        def open_camera() -> VisitorCamera:
            return VisitorCamera(options.page, options.source.name, max_frame_bytes)

        camera = open_camera()
        return LiveFeed(camera, camera.info, open_camera, options, max_frame_bytes, writer)
    if options.source.kind == "file":
        return FileFeed(open_once(), options, max_frame_bytes, writer)
    reader = open_live()
    try:
        info = reader.opened()
    except SourceStuck as error:
        raise UserError(f"source {error}; is it there, and free?") from error
    if reader.file is not None:
        return FileFeed(reader.file, options, max_frame_bytes, writer)
    return LiveFeed(reader, info, open_live, options, max_frame_bytes, writer)
