"""The feeds: they number a source's frames, answer the broker and send in order.

`Feed` is what both kinds share. A `FileFeed` keeps a window of frames until their records are written, so
that none is lost; live_feed.py sends the newest frame and counts the others."""

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.wire.messages import (
    Accept,
    Buffer,
    Committed,
    Encoding,
    End,
    Frame,
    Grant,
    RequestHello,
    SourceEnded,
    SourceInfo,
    StopCapture,
)
from pipeline.wire.session import Session
from stages.capture.reader import CLOSE_S, Reader, SourceFailed, SourceStuck, TimedFrame, open_reader
from stages.capture.spec import CaptureOptions
from stages.image_codec import FrameWriter, to_jpeg
from stages.worker import clock_ns

POLL_MS: Final = 200
RETRY_MS: Final = 10  # after a send that found the socket's buffer full

log = logging.getLogger(__name__)


class OutgoingFrame(NamedTuple):
    """A numbered frame, with its pixels if it has any."""

    header: Frame
    buffers: list[Buffer]


class Feed(ABC):
    """One source's frames, from the reader to the broker."""

    def __init__(
        self, info: SourceInfo, options: CaptureOptions, max_frame_bytes: int, writer: FrameWriter | None
    ) -> None:
        """writer: of frames in shared memory; None where there is none."""
        self.info = info
        self.options = options
        self.max_frame_bytes = max_frame_bytes
        self.committed = Committed()
        self.epoch = 0
        self.next_sequence = 0
        self.credits = 0
        self.encoding: Encoding = "raw"  # that the broker asks for
        self.accepted = False
        self.ended: str | None = None  # why the source ended: empty if it just did
        self.over = False
        self._end_told = False
        self._unsent: deque[OutgoingFrame] = deque()
        self._writer = writer

    @abstractmethod
    def turn(self, session: Session) -> None:
        """Receive messages and send what may be sent; return soon, so that heartbeats go on."""

    @abstractmethod
    def on_accept(self, message: Accept) -> None:
        """Agree on the numbering with a broker, which may be a new one or know an earlier process."""

    @abstractmethod
    def granted(self) -> None:
        """`credits` have grown, or `committed` has."""

    @abstractmethod
    def suspend(self) -> None:
        """Hold nothing that others wait for, or that times out, while this process is stopped."""

    @abstractmethod
    def close(self) -> bool:
        """Close the source; return False if that hangs."""

    def listen(self, session: Session, timeout_ms: int) -> bool:
        """Handle one message; return whether there was one."""
        received = session.receive(timeout_ms)
        if received is None:
            return False
        match received[0]:
            case RequestHello():
                self.credits, self.accepted = 0, False
            case Accept() as message:
                self.epoch, self.accepted = message.epoch, True
                if self._writer is not None:
                    self._writer.begin(message.next_sequence)
                self.credits, self._end_told = 0, False
                self._unsent.clear()
                self.on_accept(message)
                self._advance(message.committed.get(self.info.name, self.committed))
            case Grant(_, credits, committed, encoding):
                self.credits += credits
                self.encoding = encoding
                self._advance(committed)
            case StopCapture():
                self.end("")
            case End():
                self.over = True
        return True

    def _advance(self, committed: Committed) -> None:
        """Release the frames whose records are written."""
        self.committed = committed
        if self._writer is not None:
            self._writer.release(committed.offset)
        self.granted()

    def end(self, error: str) -> None:
        """Capture no more frames; the first reason is kept."""
        if self.ended is None:
            self.ended = error
            if error:
                log.error("%s", error)

    def send(self, session: Session) -> None:
        """Send what may be sent, in order; after the last frame, that the source has ended.

        Then frames need no credit: a broker that is stopping grants none.
        """
        if not self.accepted:
            return
        while self._unsent or self.queue_more():
            header, buffers = self._unsent[0]
            costs = self.costs_credit(header)
            if costs and self.credits <= 0 and self.ended is None:
                return
            captured_ns = header.captured_ns + session.offset_ns  # on the broker's clock
            sent = msgspec.structs.replace(header, epoch=self.epoch, captured_ns=captured_ns)
            if not session.send(sent, buffers):
                return  # the socket's buffer is full
            self._unsent.popleft()
            self.credits -= costs
        if self.ended is not None and not self._end_told:
            told = SourceEnded(self.info.name, self.epoch, self.next_sequence, self.ended)
            self._end_told = session.send(told)

    def costs_credit(self, header: Frame) -> bool:
        """Return whether the frame uses up a credit."""
        return True

    def queue_more(self) -> bool:
        """Add what is ready to the empty queue of frames to send; return whether there was any."""
        return False

    def number(self, picture: TimedFrame, captured_ns: int) -> OutgoingFrame:
        """Give a picture the next number, and its pixels the encoding that the broker asks for."""
        image, reason = picture.image, picture.reason
        if image is not None and image.nbytes > self.max_frame_bytes:
            image, reason = None, "larger than broker.max_message_bytes"
        where = self.info.name, self.epoch, self.next_sequence, captured_ns, picture.time_s
        self.next_sequence += 1
        if image is None:
            return OutgoingFrame(Frame(*where, None, picture.file, status="failed", reason=reason), [])
        height, width = image.shape[:2]
        encoding, pixels = self._encoded(image, where[2])
        return OutgoingFrame(Frame(*where, (height, width, 3), picture.file, encoding), [pixels])

    def _encoded(self, image: NDArray[np.uint8], sequence: int) -> tuple[Encoding, Buffer]:
        """Return the pixels as the broker asks for them; raw if shared memory has no room."""
        if self.encoding == "jpeg":
            return "jpeg", to_jpeg(image, self.options.jpeg_quality)
        if self.encoding == "shared" and self._writer is not None:
            name = self._writer.write(sequence, image)
            if name is not None:
                return "shared", name.encode()
        return "raw", image.data.cast("B")


STUCK_S: Final = 60.0
"""A sleeping disk takes 10 s to start, and one on a network may take longer."""


class FileFeed(Feed):
    """Reads against credits; if it is watched no faster than its own rate, or than the pace that is set."""

    def __init__(
        self,
        reader: Reader,
        options: CaptureOptions,
        max_frame_bytes: int,
        writer: FrameWriter | None = None,
    ) -> None:
        super().__init__(reader.info, options, max_frame_bytes, writer)
        self.reader = reader
        self._thread = ThreadPoolExecutor(1, "reader")  # so that a slow disk is not taken for a hung process
        self._reading: Future[TimedFrame | None] | None = None
        self._silent_s = 0.0  # for how long the read has taken
        self._window: deque[OutgoingFrame] = deque()  # unacknowledged
        self._committed_before = 0  # frames of an earlier process that are written: read and discarded
        self._pace_fps = options.settings.pace_fps  # 0: none is set
        self._paced = False
        self._start_s: float | None = None  # when the picture of time 0 was due
        self._ahead: TimedFrame | None = None  # read, and not yet due

    def turn(self, session: Session) -> None:
        self.listen(session, self._wait_ms())
        if self._may_read() and self._wait_ms() == 0:
            self._read()
        self.send(session)

    def on_accept(self, message: Accept) -> None:
        """Send again what the broker lacks, and continue behind what is written."""
        self._paced = message.paced or self._pace_fps > 0
        kept_from = self._window[0].header.sequence if self._window else self.next_sequence
        if message.next_sequence < kept_from:
            self._rewind()
        self._unsent.extend(item for item in self._window if item.header.sequence >= message.next_sequence)
        self._committed_before = message.next_sequence

    def _rewind(self) -> None:
        """Begin the file again: an earlier process read what is asked for, and the broker that had it is
        gone."""
        self.next_sequence, self._ahead, self.ended = 0, None, None
        self._window.clear()
        if self._writer is not None:
            self._writer.release(before=sys.maxsize)
        self._reading = self._thread.submit(self._begin_again)  # runs after a read that is under way

    def _begin_again(self) -> TimedFrame | None:
        self.reader.close()
        self.reader = open_reader(self.options.source, self.options.settings, self.max_frame_bytes)
        return self.reader.read()

    def granted(self) -> None:
        while self._window and self._window[0].header.sequence < self.committed.offset:
            self._window.popleft()

    def suspend(self) -> None:
        """A read that is under way would time out while this process is stopped."""
        if self._reading is not None:
            wait([self._reading], CLOSE_S)

    def close(self) -> bool:
        closing = self._thread.submit(self.reader.close)
        self._thread.shutdown(wait=False)
        return bool(wait([closing], CLOSE_S).done)

    def _may_read(self) -> bool:
        if not self.accepted or self.ended is not None or self.over:
            return False
        return self._behind() or (self.credits > 0 and not self._unsent)

    def _behind(self) -> bool:
        return self.next_sequence < self._committed_before

    def _read(self) -> None:
        picture, self._ahead = self._ahead, None
        if picture is None:
            picture = self._next_picture()
            if picture is None or self._is_early(picture):
                return
        item = self.number(picture, clock_ns())
        self._window.append(item)
        self._unsent.append(item)

    def _next_picture(self) -> TimedFrame | None:
        """Return the next picture to send; None at the end of the file, and if there is none yet."""
        reading = self._reading = self._reading or self._thread.submit(self.reader.read)
        if not wait([reading], POLL_MS / 1000).done:
            self._silent_s += POLL_MS / 1000
            if self._silent_s >= STUCK_S:
                raise SourceStuck(f"{self.info.name}: no answer to a read for {self._silent_s:.0f} s")
            return None
        self._reading, self._silent_s = None, 0.0
        try:
            picture = reading.result()
        except (SourceFailed, UserError) as error:  # the latter: it can't be opened again to repeat it
            self.end(str(error))
            return None
        if picture is None:
            self.end("")
        elif self._behind():
            self.next_sequence += 1
            return None
        return picture

    def _wait_ms(self) -> int:
        """Return how long to wait for a message: 0 while there is something to read."""
        if self._may_read():
            if self._ahead is None or self._start_s is None:
                return 0
            due_s = self._start_s + self._place_s(self._ahead) - time.monotonic()
            return min(POLL_MS, max(0, round(1000 * due_s)))
        return RETRY_MS if self._unsent and self.credits > 0 else POLL_MS

    def _is_early(self, picture: TimedFrame) -> bool:
        """Keep a picture that is not due yet; if it is late, move the schedule of all that follow."""
        if not self._paced:
            return False
        now_s, place_s = time.monotonic(), self._place_s(picture)
        if self._start_s is None or self._start_s + place_s <= now_s:
            self._start_s = now_s - place_s
            return False
        self._ahead = picture
        return True

    def _place_s(self, picture: TimedFrame) -> float:
        """Return when the next picture is due, seconds after the first."""
        return self.next_sequence / self._pace_fps if self._pace_fps else picture.time_s
