"""Live sources: the newest frame is sent, and every frame that is not is counted with its reason."""

import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.wire.messages import Accept, Frame, SourceInfo
from pipeline.wire.session import Session
from stages.capture.feed import POLL_MS, Feed, OutgoingFrame
from stages.capture.reader import CLOSE_S, Reader, SourceFailed, SourceStuck, TimedFrame
from stages.capture.spec import CaptureOptions
from stages.image_codec import FrameWriter
from stages.worker import clock_ns

MOST_TIMES: Final = 1024
"""The newest frames, which keep their exact times: far more than are ever under way."""

STUCK_S: Final = 15.0
"""Silence after which a driver hangs: reads give up by themselves after 4 s, opening after 12 s."""

FIRST_BACK_OFF_S: Final = 0.5
LONGEST_BACK_OFF_S: Final = 30.0
QUEUED: Final = 64  # outcomes queued at once: as many as the socket's buffer takes
AHEAD: Final = 1024  # outcomes sent and not yet written: the broker is not flooded after a long absence

log = logging.getLogger(__name__)


class CaptureTimes:
    """When the frames without a written record were captured; of many, the older times are interpolated."""

    def __init__(self) -> None:
        # Number and time, ns. The first is before all frames of this process.
        self._known: deque[tuple[int, int]] = deque([(-1, clock_ns())])

    def add(self, sequence: int, captured_ns: int) -> None:
        """Add the next frame."""
        self._known.append((sequence, captured_ns))
        if len(self._known) > MOST_TIMES:
            del self._known[1]

    def forget(self, before: int) -> None:
        while len(self._known) > 1 and self._known[1][0] <= before:
            self._known.popleft()

    def of(self, sequences: range) -> list[int]:
        """Return the times of frames, ns."""
        numbers, times_ns = zip(*self._known, strict=True)
        return [round(time_ns) for time_ns in np.interp(sequences, numbers, times_ns)]


class LiveFrame(NamedTuple):
    """A picture and its time; None for a picture that a newer one has replaced."""

    captured_ns: int
    picture: TimedFrame | None
    is_news: bool = True  # False: so far the same pictures as in the opening before


class Openings:
    """Tells a source that continues after it broke off from one that begins again with the same pictures.

    It keeps a checksum of the first 1, 2, 4, 8, … pictures of an opening, however long that is.
    """

    def __init__(self) -> None:
        self._before: dict[int, int] = {}  # of the opening before
        self._before_count = -1  # its pictures; -1: this is the first
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[int, int] = {}  # by the number of pictures
        self._sum = self._count = 0
        self._is_news = False

    def next_opening(self) -> None:
        if self._count:  # an opening without pictures says nothing
            self._before, self._before_count = self._sums, self._count
        self._begin()

    def is_news(self, image: NDArray[np.uint8] | None) -> bool:
        """Return whether this opening, with its next picture, differs from the one before.

        Every sixteenth row and column is compared.
        """
        self._sum = zlib.crc32(b"" if image is None else image[::16, ::16].tobytes(), self._sum)
        self._count += 1
        if self._count.bit_count() == 1:
            self._sums[self._count] = self._sum
            self._is_news |= self._before.get(self._count, self._sum) != self._sum
        self._is_news |= self._count > self._before_count
        return self._is_news


class LiveReader:
    """One opening of a source, read by a thread: its newest picture, and the times of those it replaced."""

    def __init__(
        self, name: str, open_source: Callable[[], Reader], openings: Openings | None = None
    ) -> None:
        """`openings`: shared by all readers of the source."""
        self.file: Reader | None = None
        """The open source if it turns out to be a file, which is not read here."""

        self.info: SourceInfo | None = None
        self._name = name
        self._openings = openings or Openings()
        self._changed = threading.Condition()
        self._mailbox: list[LiveFrame] = []
        self._failure: SourceFailed | UserError | None = None
        self._stopped = False
        self._silent_s = 0.0
        self._thread = threading.Thread(target=self._run, args=(open_source,), name="reader", daemon=True)
        self._thread.start()

    def opened(self) -> SourceInfo:
        """Wait until the source is open. Raises UserError if it does not open, SourceStuck if it hangs."""
        while self.info is None:
            self._wait(STUCK_S, lambda: self.info is not None)
        return self.info

    def take(self, timeout_s: float) -> list[LiveFrame]:
        """Wait for a picture; return all since the last call, of which only the newest has its pixels.

        After the last picture of a source that failed it raises SourceFailed or UserError; also SourceStuck.
        """
        self._wait(timeout_s, lambda: bool(self._mailbox))
        with self._changed:
            frames, self._mailbox = self._mailbox, []
        return frames

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True

    def close(self) -> bool:
        """Wait up to CLOSE_S for the source to close; return False if its reader hangs."""
        self.stop()
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()

    def _wait(self, timeout_s: float, there: Callable[[], bool]) -> None:
        """Wait until `there` is true, or raise why it can't be.

        Only time spent waiting here counts as silence: a stopped process or a changed clock adds none.
        """
        with self._changed:
            self._changed.wait_for(lambda: there() or self._failure is not None, timeout_s)
            if there():
                self._silent_s = 0.0
            elif self._failure is not None:
                raise self._failure
            elif not self._thread.is_alive():
                raise SourceFailed(f"{self._name}: its reader has ended")
            else:
                self._silent_s += timeout_s
                if self._silent_s >= STUCK_S:
                    raise SourceStuck(f"{self._name}: its driver hangs: no answer for {self._silent_s:.0f} s")

    def _run(self, open_source: Callable[[], Reader]) -> None:
        try:
            reader = open_source()
            if reader.info.kind == "file":
                self.file = reader
            with self._changed:
                self.info = reader.info
                self._changed.notify()
            if self.file is None:
                try:
                    self._read(reader)
                finally:
                    reader.close()
        except (SourceFailed, UserError) as error:
            with self._changed:
                self._failure = error
                self._changed.notify()

    def _read(self, reader: Reader) -> None:
        self._openings.next_opening()
        while not self._stopped:
            picture = reader.read()
            captured_ns = clock_ns()
            if picture is None:
                raise SourceFailed(f"{self._name}: it has ended")
            is_news = self._openings.is_news(picture.image)
            with self._changed:
                if self._mailbox:
                    self._mailbox[-1] = self._mailbox[-1]._replace(picture=None)
                self._mailbox.append(LiveFrame(captured_ns, picture, is_news))
                self._changed.notify()


class LiveSource(Protocol):
    """What a LiveFeed reads from: a LiveReader, or a visitor's camera."""

    def take(self, timeout_s: float) -> list[LiveFrame]: ...

    def stop(self) -> None: ...

    def close(self) -> bool: ...


class LiveFeed(Feed):
    """Reads at the source's rate; a source that breaks off is opened again, after a growing delay."""

    def __init__(
        self, source: LiveSource, info: SourceInfo, reopen: Callable[[], LiveSource], options: CaptureOptions,
        max_frame_bytes: int, writer: FrameWriter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(info, options, max_frame_bytes, writer)
        self._source = source
        self._reopen = reopen
        self._times = CaptureTimes()
        self._next_queued = 0  # all frames before are queued or sent
        self._of_lost_broker = 0  # frames before this one were lost with a broker
        self._begun = False
        self._failures = 0  # in a row
        self._repeats = False  # whether it has given the same pictures again since it failed
        self._reopen_s: float | None = None  # when; None: it is open
        self._first_ns = 0

    def turn(self, session: Session) -> None:
        rest_ms = POLL_MS if self.ended is not None else min(POLL_MS, self._back_off_ms())
        frames = [] if rest_ms else self._capture()
        while self.listen(session, rest_ms) and not self.over:
            rest_ms = 0
        self.send(session)  # what waits goes first, so that the newest frame gets a credit
        if self.ended is None and not self.over and self._begun:
            for live_frame in frames:
                if self.ended is None:
                    self._take(live_frame)
                self.send(session)

    def on_accept(self, message: Accept) -> None:
        """Count what a lost broker had as dropped, frames of an earlier process among them."""
        self.next_sequence = max(self.next_sequence, message.next_sequence)
        self._next_queued, self._of_lost_broker = message.next_sequence, self.next_sequence

    def granted(self) -> None:
        self._begun = self._begun or self.credits > 0
        self._times.forget(self.committed.offset)

    def end(self, error: str) -> None:
        super().end(error)
        self._source.stop()

    def suspend(self) -> None:
        """Release the camera or stream; it is opened again at the next turn."""
        if self._reopen_s is None and self.ended is None:
            self._source.close()
            self._reopen_s = time.monotonic()

    def close(self) -> bool:
        return self._source.close()

    def costs_credit(self, header: Frame) -> bool:
        return header.shape is not None

    def queue_more(self) -> bool:
        """Queue the outcomes of frames that are numbered and were not sent."""
        ahead = self._next_queued - self.committed.offset
        room = QUEUED if self.ended is not None else min(QUEUED, AHEAD - ahead)  # the end comes after all
        numbers = range(self._next_queued, min(self.next_sequence, self._next_queued + room))
        for sequence, captured_ns in zip(numbers, self._times.of(numbers), strict=True):
            reason = "broker_restarted" if sequence < self._of_lost_broker else "superseded"
            where = self.info.name, self.epoch, sequence, captured_ns, self._time_s(captured_ns)
            self._unsent.append(OutgoingFrame(Frame(*where, None, status="dropped", reason=reason), []))
            self._next_queued = sequence + 1
        return bool(self._unsent)

    def _capture(self) -> list[LiveFrame]:
        """Wait up to POLL_MS for pictures, and open the source again if it is time."""
        if self._reopen_s is not None:
            self._source, self._reopen_s = self._reopen(), None
        try:
            frames = self._source.take(POLL_MS / 1000)
        except (SourceFailed, UserError) as error:
            self._failed(str(error))
            return []
        if self._failures and any(frame.is_news for frame in frames):
            log.info("%s: pictures come again", self.info.name)
            self._failures, self._repeats = 0, False
        self._repeats |= bool(self._failures and frames)
        return frames

    def _take(self, live_frame: LiveFrame) -> None:
        """Number a frame and queue it; one that can't be sent at once is superseded by the next."""
        captured_ns, picture, _ = live_frame
        self._first_ns = self._first_ns or captured_ns
        duration_s = self.options.settings.duration_s
        if duration_s and self._time_s(captured_ns) >= duration_s:
            self.end("")
            return
        self._times.add(self.next_sequence, captured_ns)
        clear = self.accepted and not self._unsent and self._next_queued == self.next_sequence
        if picture is None or not clear or self.credits <= 0:
            self.next_sequence += 1
            return
        picture = picture._replace(time_s=self._time_s(captured_ns))
        self._unsent.append(self.number(picture, captured_ns))
        self._next_queued = self.next_sequence

    def _time_s(self, captured_ns: int) -> float:
        return max(0, captured_ns - (self._first_ns or captured_ns)) / 1e9

    def _failed(self, what: str) -> None:
        """Wait before the source is opened again; end it after too many failures in a row."""
        attempts = self.options.settings.reopen_attempts
        if self._failures >= attempts:
            same = ", which gave the same pictures each time" if self._repeats else ""
            self.end(f"{what}; given up after {attempts} attempts to open it again{same}")
            return
        back_off_s = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2**self._failures)
        self._failures += 1
        self._reopen_s = time.monotonic() + back_off_s
        log.warning(
            "%s; opened again in %.1f s (attempt %d of %d)", what, back_off_s, self._failures, attempts
        )

    def _back_off_ms(self) -> int:
        if self._reopen_s is None:
            return 0
        return max(0, round(1000 * (self._reopen_s - time.monotonic())))
