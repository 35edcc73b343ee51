"""The capture process: one source's frames out, against credits."""

import logging
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Final

import msgspec

from pipeline.assignment import Assignment, CaptureOptions
from pipeline.child import StopFlag
from pipeline.errors import UserError
from pipeline.messages import (
    PROTOCOL,
    Buffer,
    End,
    Frame,
    Grant,
    Hello,
    Introduce,
    NoFrame,
    Progress,
    SourceEnded,
    SourceInfo,
    StopCapture,
    Welcome,
)
from pipeline.session import Session
from pipeline.worker import clock_ns
from stages.capture.reader import Picture, Reader, SourceFailed, open_reader

POLL_MS: Final = 200
SKIP_FRAMES: Final = 50  # discarded between two heartbeats
FIRST_BACK_OFF_S: Final = 0.5

log = logging.getLogger(__name__)


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Open the source and serve its frames until the run ends."""
    options = msgspec.json.decode(assignment.options, type=CaptureOptions)
    reader = open_reader(options.source, options.settings)
    stop.listen()
    feed = LiveFeed(reader, options) if options.source.kind == "live" else FileFeed(reader, options)
    feed.max_frame_bytes = assignment.max_message_bytes

    def hello() -> Hello:
        return Hello(
            "capture",
            assignment.name,
            assignment.slot,
            os.getpid(),
            PROTOCOL,
            source=feed.info,
            progress={feed.info.name: feed.progress},
        )

    try:
        with Session(assignment, hello) as session:
            while not stop and not feed.over:
                feed.turn(session)
    finally:
        feed.reader.close()
    return 0


class Feed(ABC):
    """What both kinds of source do: number the frames and answer the broker."""

    def __init__(self, reader: Reader, options: CaptureOptions) -> None:
        self.reader = reader
        self.options = options
        self.info: SourceInfo = reader.info
        self.progress = Progress()
        self.max_frame_bytes = 0
        self.epoch = 0
        self.next_sequence = 0
        self.credits = 0
        self.welcomed = False
        self.ended: str | None = None  # why the source ended: empty if it just did
        self.over = False

    @abstractmethod
    def turn(self, session: Session) -> None:
        """Take in messages and send what may be sent; return soon, so that heartbeats go on."""

    @abstractmethod
    def welcome(self, session: Session, welcome: Welcome) -> None:
        """Bring the numbering into line with a broker that may be new, or with a run that goes on."""

    def listen(self, session: Session, timeout_ms: int) -> bool:
        """Take in one message if there is one."""
        received = session.receive(timeout_ms)
        match received:
            case None:
                return False
            case (Introduce(), _):
                self.credits, self.welcomed = 0, False
            case (Welcome() as welcome, _):
                self.epoch, self.welcomed = welcome.epoch, True
                self.welcome(session, welcome)
                if self.ended is not None:
                    self.end(session, self.ended)
            case (Grant(_, credits, progress), _):
                self.credits += credits
                self.progress = progress
            case (StopCapture(), _):
                if self.ended is None:
                    self.end(session, "")
            case (End(), _):
                self.over = True
        return True

    def end(self, session: Session, error: str) -> None:
        """Tell that no more frames come; told again to a new broker."""
        if error and self.ended is None:
            log.error("%s", error)
        self.ended = error
        session.send(SourceEnded(self.info.name, self.epoch, self.next_sequence, error))

    def header(self, picture: Picture, captured_ns: int) -> tuple[Frame | NoFrame, list[Buffer]]:
        """Give a picture the next number."""
        name, sequence = self.info.name, self.next_sequence
        self.next_sequence += 1
        image, reason = picture.image, picture.reason
        if image is not None and image.nbytes > self.max_frame_bytes:
            image, reason = None, "larger than broker.max_message_bytes"
        if image is None:
            return (
                NoFrame(
                    name, self.epoch, sequence, captured_ns, picture.time_s, "failed", reason, picture.file
                ),
                [],
            )
        height, width = image.shape[:2]
        frame = Frame(
            name, self.epoch, sequence, captured_ns, picture.time_s, (height, width, 3), picture.file
        )
        return frame, [image.data.cast("B")]


class FileFeed(Feed):
    """A file: a window of frames that are kept until they are known to be written. Nothing is lost."""

    def __init__(self, reader: Reader, options: CaptureOptions) -> None:
        super().__init__(reader, options)
        self._window: deque[tuple[Frame | NoFrame, list[Buffer]]] = deque()
        self._paced = False
        self._skip_to = 0
        self._start_s: float | None = None
        self._ahead: Picture | None = None  # read, and not yet due

    def turn(self, session: Session) -> None:
        ready = self.welcomed and self.ended is None and self.credits > 0
        wait_ms = self._wait_ms() if ready else POLL_MS
        if self.listen(session, wait_ms):
            self._trim()
            return
        if not ready or self._wait_ms() > 0:
            return
        picture, self._ahead = self._ahead, None
        if picture is None:
            try:
                picture = self.reader.read()
            except SourceFailed as error:
                self.end(session, str(error))
                return
            if picture is None:
                self.end(session, "")
                return
            if self._not_due(picture):
                return
        self._send_next(session, picture)

    def _wait_ms(self) -> int:
        """Until the picture that has been read is due: a watched file plays at its own rate."""
        if self._ahead is None or self._start_s is None:
            return 0
        return max(0, round(1000 * (self._start_s + self._place_s(self._ahead) - time.monotonic())))

    def _place_s(self, picture: Picture) -> float:
        """When the next picture is due, seconds after the first."""
        pace_fps = self.options.settings.pace_fps
        return self.next_sequence / pace_fps if pace_fps else picture.time_s

    def _not_due(self, picture: Picture) -> bool:
        """Keep a picture for later if it is early; if it is late, the whole rest plays later."""
        if not self._paced:
            return False
        now_s, place_s = time.monotonic(), self._place_s(picture)
        if self._start_s is None or self._start_s + place_s < now_s:
            self._start_s = now_s - place_s
            return False
        self._ahead = picture
        return self._wait_ms() > 0

    def _send_next(self, session: Session, picture: Picture) -> None:
        self._ahead = None
        item = self.header(picture, clock_ns())
        self._window.append(item)
        self.credits -= 1
        session.send(*item)

    def _trim(self) -> None:
        while self._window and self._window[0][0].sequence < self.progress.written:
            self._window.popleft()

    def welcome(self, session: Session, welcome: Welcome) -> None:
        """Send again what the broker lacks; decode and discard what has been written already."""
        self._paced = welcome.paced or self.options.settings.pace_fps > 0
        self.credits = 0
        for header, buffers in self._window:
            if header.sequence >= welcome.next_sequence:
                self.credits -= 1  # the new broker counts them against its first grant
                session.send(msgspec.structs.replace(header, epoch=self.epoch), buffers)
        while self.next_sequence < welcome.next_sequence:
            frames = min(SKIP_FRAMES, welcome.next_sequence - self.next_sequence)
            self.reader.skip(frames)
            self.next_sequence += frames
            session.beat()


class LiveFeed(Feed):
    """A camera or stream: the newest frame goes out, whatever can't is counted as dropped."""

    def __init__(self, reader: Reader, options: CaptureOptions) -> None:
        super().__init__(reader, options)
        self._outstanding: deque[NoFrame] = deque()  # their outcome should the broker vanish
        self._begun = False
        self._failures = 0
        self._first_ns = 0

    def turn(self, session: Session) -> None:
        while self.listen(session, POLL_MS if self.ended is not None or self.over else 0):
            self._begun = self._begun or self.credits > 0
            self._trim()
        if self.ended is not None or self.over:
            return
        try:
            picture = self.reader.read()
        except SourceFailed as error:
            self._reopen(session, error)
            return
        if picture is None:
            self.end(session, "")
        elif self._begun:  # before the run has begun, frames only keep the camera's buffer fresh
            self._failures = 0
            self._send_newest(session, picture)

    def _send_newest(self, session: Session, picture: Picture) -> None:
        captured_ns = clock_ns()
        self._first_ns = self._first_ns or captured_ns
        picture = picture._replace(time_s=(captured_ns - self._first_ns) / 1e9)
        header, buffers = self.header(picture, captured_ns)
        lost = self._dropped(header, "broker_restarted")
        self._outstanding.append(lost)
        if not self.welcomed:
            return
        if self.credits > 0:
            self.credits -= 1
            session.send(header, buffers)
        else:
            session.send(msgspec.structs.replace(lost, reason="superseded"))

    def _dropped(self, header: Frame | NoFrame, reason: str) -> NoFrame:
        return NoFrame(
            header.source,
            header.epoch,
            header.sequence,
            header.captured_ns,
            header.time_s,
            "dropped",
            reason,
        )

    def _trim(self) -> None:
        while self._outstanding and self._outstanding[0].sequence < self.progress.written:
            self._outstanding.popleft()

    def welcome(self, session: Session, welcome: Welcome) -> None:
        """What a vanished broker held is dropped, and counted so."""
        self.credits = 0
        self.next_sequence = max(self.next_sequence, welcome.next_sequence)
        for lost in self._outstanding:
            if lost.sequence >= welcome.next_sequence:
                session.send(msgspec.structs.replace(lost, epoch=self.epoch))

    def _reopen(self, session: Session, error: SourceFailed) -> None:
        """Open the source again, waiting longer each time; after enough failures in a row it ends."""
        if self._failures >= self.options.settings.reopen_attempts:
            self.end(session, f"{error}; given up after {self._failures} attempts to open it again")
            return
        back_off_s = FIRST_BACK_OFF_S * 2**self._failures
        self._failures += 1
        log.warning("%s; opened again in %.1f s", error, back_off_s)
        self.reader.close()
        until_s = time.monotonic() + back_off_s
        while time.monotonic() < until_s and not self.over and self.ended is None:
            self.listen(session, POLL_MS)
        if self.over or self.ended is not None:
            return
        try:
            self.reader = open_reader(self.options.source, self.options.settings)
        except UserError as failure:
            self._reopen(session, SourceFailed(str(failure)))
