"""A file's frames: a window of them is kept until they are known to be written, so none is lost."""

import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from pipeline.common.errors import UserError
from pipeline.wire.messages import Accept, Frame, NoFrame
from stages.capture.feed import POLL_MS, RETRY_MS, Conversation, Feed, OutgoingFrame
from stages.capture.open import open_reader
from stages.capture.reader import CLOSE_S, Reader, SourceFailed, SourceStuck, TimedFrame
from stages.capture.spec import CaptureOptions
from stages.image_codec import FrameWriter
from stages.worker import clock_ns

STUCK_S: Final = 60.0
"""A disk that was asleep takes 10 s, and a network's may be asked again for longer than that."""


class FileFeed(Feed):
    """Reads against credits; no faster than its own rate if watched, or than a pace that is set."""

    def __init__(
        self,
        reader: Reader,
        options: CaptureOptions,
        max_frame_bytes: int,
        writer: FrameWriter | None = None,
    ) -> None:
        super().__init__(reader.info, options, max_frame_bytes, writer)
        self.reader = reader
        self._thread = ThreadPoolExecutor(1, "reader")  # a slow disk must not pass for a hung process
        self._reading: Future[TimedFrame | None] | None = None
        self._silent_s = 0.0  # for how long it has been waited for
        self._window: deque[OutgoingFrame] = deque()  # unacknowledged
        self._committed_before = 0  # frames of an earlier process that are written: read and discarded
        self._pace_fps = options.settings.pace_fps  # 0: none is set
        self._paced = False
        self._start_s: float | None = None  # when the picture of time 0 was due
        self._ahead: TimedFrame | None = None  # read, and not yet due

    def turn(self, session: Conversation) -> None:
        self.listen(session, self._wait_ms())
        if self._may_read() and self._wait_ms() == 0:
            self._read()
        self.send(session)

    def on_accept(self, message: Accept) -> None:
        """Send again what the broker lacks; go on behind what has been written already."""
        self._paced = message.paced or self._pace_fps > 0
        kept_from = self._window[0].header.sequence if self._window else self.next_sequence
        if message.next_sequence < kept_from:
            self._rewind()
        self._unsent.extend(item for item in self._window if item.header.sequence >= message.next_sequence)
        self._committed_before = message.next_sequence

    def _rewind(self) -> None:
        """Begin the file again: what is wanted was read by an earlier process, and the broker that had it is
        gone."""
        self.next_sequence, self._ahead, self.ended = 0, None, None
        self._window.clear()
        self._shared.release(before=sys.maxsize)
        self._reading = self._thread.submit(self._begin_again)  # behind what may be under way

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

    def costs_credit(self, header: Frame | NoFrame) -> bool:
        return True

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
        """The next one that is to be sent; None at the end of the file, and if there is none yet to send."""
        reading = self._reading = self._reading or self._thread.submit(self.reader.read)
        if not wait([reading], POLL_MS / 1000).done:
            self._silent_s += POLL_MS / 1000
            if self._silent_s >= STUCK_S:
                raise SourceStuck(f"{self.info.name}: no answer to a read for {self._silent_s:.0f} s")
            return None
        self._reading, self._silent_s = None, 0.0
        try:
            picture = reading.result()
        except (SourceFailed, UserError) as error:  # the latter: it can't be opened to be repeated
            self.end(str(error))
            return None
        if picture is None:
            self.end("")
        elif self._behind():
            self.next_sequence += 1
            return None
        return picture

    def _wait_ms(self) -> int:
        """How long to wait for a message: not at all while there is something to read."""
        if self._may_read():
            if self._ahead is None or self._start_s is None:
                return 0
            due_s = self._start_s + self._place_s(self._ahead) - time.monotonic()
            return min(POLL_MS, max(0, round(1000 * due_s)))
        return RETRY_MS if self._unsent and self.credits > 0 else POLL_MS

    def _is_early(self, picture: TimedFrame) -> bool:
        """Keep a picture that is not due yet; if it is late, all that follows plays later too."""
        if not self._paced:
            return False
        now_s, place_s = time.monotonic(), self._place_s(picture)
        if self._start_s is None or self._start_s + place_s <= now_s:
            self._start_s = now_s - place_s
            return False
        self._ahead = picture
        return True

    def _place_s(self, picture: TimedFrame) -> float:
        """When the picture that comes next is due, seconds after the first."""
        return self.next_sequence / self._pace_fps if self._pace_fps else picture.time_s
