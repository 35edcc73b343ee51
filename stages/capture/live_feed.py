"""A live source's frames: the newest goes out, whatever can't is counted with its reason."""

import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.wire.messages import Accept, Frame, NoFrame, SourceInfo
from pipeline.wire.session import Session
from stages.capture.feed import POLL_MS, Feed, OutgoingFrame
from stages.capture.reader import CLOSE_S, Reader, SourceFailed, SourceStuck, TimedFrame
from stages.capture.spec import CaptureOptions
from stages.image_codec import FrameWriter
from stages.worker import clock_ns

MOST_SPANS: Final = 1024
"""So many of the newest frames keep their exact times: far more than are ever under way."""


class Span(NamedTuple):
    """Frames numbered without gaps, their times taken as even between the first's and the last's."""

    first: int
    frames: int
    first_ns: int
    last_ns: int

    def at(self, sequence: int) -> int:
        """The time of one frame, ns."""
        step = (sequence - self.first) / max(1, self.frames - 1)
        return self.first_ns + round(step * (self.last_ns - self.first_ns))

    def after(self, sequence: int) -> "Span":
        """The part from `sequence` on."""
        return Span(sequence, self.first + self.frames - sequence, self.at(sequence), self.last_ns)


class Spans:
    """Frames numbered without gaps. Beyond MOST_SPANS the oldest share one: they have no picture to date."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque()

    @property
    def first(self) -> int | None:
        return self._spans[0].first if self._spans else None

    def add(self, sequence: int, captured_ns: int) -> None:
        """The next frame."""
        self._spans.append(Span(sequence, 1, captured_ns, captured_ns))
        if len(self._spans) > MOST_SPANS:
            old, next_one = self._spans.popleft(), self._spans.popleft()
            joined = Span(old.first, old.frames + next_one.frames, old.first_ns, next_one.last_ns)
            self._spans.appendleft(joined)

    def precede(self, first: int, until: int, captured_ns: int) -> None:
        """Frames from `first` up to and without `until`, the oldest that is here: all of one time."""
        if first < until:
            self._spans.appendleft(Span(first, until - first, captured_ns, captured_ns))

    def forget(self, before: int) -> None:
        while self._spans and self._spans[0].first < before:
            span = self._spans.popleft()
            if span.first + span.frames > before:
                self._spans.appendleft(span.after(before))

    def since(self, sequence: int) -> Iterator[tuple[int, int]]:
        """Number and time, ns, of the frames from `sequence` on."""
        for span in self._spans:
            for number in range(max(sequence, span.first), span.first + span.frames):
                yield number, span.at(number)


STUCK_S: Final = 15.0
"""A driver hangs that has not come back by then: a read gives up by itself after 4 s, opening after 12 s."""


class LiveFrame(NamedTuple):
    """A picture and when it was there; without the picture: a newer one has taken its place."""

    captured_ns: int
    picture: TimedFrame | None
    is_news: bool = True  # False: the opening before this one has begun with the same pictures


class Openings:
    """Tells a source that goes on after it broke off from one that begins again with the same pictures.

    Kept of an opening is a checksum of its first 1, 2, 4, 8, … pictures: as small for a day as for a clip.
    """

    def __init__(self) -> None:
        self._before: list[int] = []  # of the opening before
        self._before_count = -1  # its pictures; -1: this is the first
        self._begin()

    def _begin(self) -> None:
        self._sums: list[int] = []
        self._sum = self._count = 0
        self._is_news = False

    def next_opening(self) -> None:
        if self._count:  # one that gave nothing has shown nothing
            self._before, self._before_count = self._sums, self._count
        self._begin()

    def is_news(self, image: NDArray[np.uint8] | None) -> bool:
        """Take in the next picture of this opening; a sixteenth of its rows and columns is looked at."""
        self._sum = zlib.crc32(b"" if image is None else image[::16, ::16].tobytes(), self._sum)
        self._count += 1
        if self._count.bit_count() == 1:
            number = len(self._sums)
            self._sums.append(self._sum)
            self._is_news |= number < len(self._before) and self._before[number] != self._sum
        self._is_news |= self._count > self._before_count
        return self._is_news


class LiveReader:
    """One opening of a source: the newest of its pictures, and the times of those that it replaced."""

    def __init__(
        self, name: str, open_source: Callable[[], Reader], openings: Openings | None = None
    ) -> None:
        """`openings`: of the same source, one after the other."""
        self.file: Reader | None = None
        """The source if it turned out to be a file: it is open, and not read here."""

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
        """Wait until the source is open. Raises UserError if it does not open, SourceStuck if that hangs."""
        while self.info is None:
            self._wait(STUCK_S, lambda: self.info is not None)
        return self.info

    def take(self, timeout_s: float) -> list[LiveFrame]:
        """Wait for a picture; return all since the last call, of which the newest alone has its pixels.

        Raises SourceFailed or UserError when the source has failed, behind its last picture, and SourceStuck.
        """
        self._wait(timeout_s, lambda: bool(self._mailbox))
        with self._changed:
            frames, self._mailbox = self._mailbox, []
        return frames

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True

    def close(self) -> bool:
        """Wait, not for long, until the source is closed; False if its reader hangs."""
        self.stop()
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()

    def _wait(self, timeout_s: float, there: Callable[[], bool]) -> None:
        """Silence is what was waited in vain: a process that was stopped, or a clock, makes none."""
        with self._changed:
            self._changed.wait_for(lambda: there() or self._failure is not None, timeout_s)
            if there():
                self._silent_s = 0.0
            elif self._failure is not None:
                raise self._failure
            elif not self._thread.is_alive():
                raise SourceFailed(f"{self._name}: its reader broke off")
            else:
                self._silent_s += timeout_s
                if self._silent_s >= STUCK_S:
                    raise SourceStuck(f"{self._name}: its driver hangs: no answer for {self._silent_s:.0f} s")

    def _run(self, open_source: Callable[[], Reader]) -> None:
        try:
            reader = open_source()
            if reader.info.kind == "file":
                self.file = reader
                self._is_open(reader)
                return
            try:
                self._read(reader)
            finally:
                reader.close()
        except (SourceFailed, UserError) as error:
            with self._changed:
                self._failure = error
                self._changed.notify()

    def _is_open(self, reader: Reader) -> None:
        with self._changed:
            self.info = reader.info
            self._changed.notify()

    def _read(self, reader: Reader) -> None:
        self._openings.next_opening()
        self._is_open(reader)
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


FIRST_BACK_OFF_S: Final = 0.5
LONGEST_BACK_OFF_S: Final = 30.0
QUEUED: Final = 64  # outcomes made ready to be sent at once: as many as the socket's buffer takes
AHEAD: Final = 1024  # outcomes told and not yet written: after a long absence the broker is not flooded

log = logging.getLogger(__name__)


class LiveSource(Protocol):
    """What a feed needs of `live_reader.LiveReader`."""

    def take(self, timeout_s: float) -> list[LiveFrame]: ...

    def stop(self) -> None: ...

    def close(self) -> bool: ...


class LiveFeed(Feed):
    """Reads at the source's rate; one that breaks off is opened again, after a while that grows."""

    def __init__(
        self, source: LiveSource, info: SourceInfo, reopen: Callable[[], LiveSource], options: CaptureOptions,
        max_frame_bytes: int, writer: FrameWriter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(info, options, max_frame_bytes, writer)
        self._source = source
        self._reopen = reopen
        self._uncommitted = Spans()  # their outcomes should the broker vanish
        self._next_queued = 0  # all frames before are in the line of what is to be sent, or sent
        self._of_lost_broker = 0  # frames before this one are lost with a broker
        self._begun = False
        self._failures = 0  # in a row
        self._repeats = False  # whether it has given the same pictures again since it failed
        self._reopen_s: float | None = None  # when; None: it is open
        self._first_ns = 0

    def turn(self, session: Session) -> None:
        resting = self.ended is not None or self._back_off_ms() > 0
        frames = [] if resting else self._capture()
        wait_ms = (POLL_MS if self.ended is not None else min(POLL_MS, self._back_off_ms())) if resting else 0
        while self.listen(session, wait_ms) and not self.over:
            wait_ms = 0
        self.send(session)  # what has waited goes first, so that the newest frame finds its credit
        if self.ended is None and not self.over and self._begun:
            for live_frame in frames:
                if self.ended is None:
                    self._take(live_frame)
                self.send(session)

    def on_accept(self, message: Accept) -> None:
        """What a vanished broker held is dropped, and counted so."""
        self.next_sequence = max(self.next_sequence, message.next_sequence)
        first = self._uncommitted.first
        # Of an earlier process; the broker that had them is gone.
        self._uncommitted.precede(
            message.next_sequence, self.next_sequence if first is None else first, clock_ns()
        )
        self._next_queued, self._of_lost_broker = message.next_sequence, self.next_sequence

    def granted(self) -> None:
        self._begun = self._begun or self.credits > 0
        self._uncommitted.forget(self.committed.offset)

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

    def costs_credit(self, header: Frame | NoFrame) -> bool:
        return isinstance(header, Frame)

    def queue_more(self) -> bool:
        """Frames that are numbered and did not go out: only their outcomes are left to tell."""
        ahead = self._next_queued - self.committed.offset
        room = QUEUED if self.ended is not None else min(QUEUED, AHEAD - ahead)  # the end is told behind all
        for sequence, captured_ns in islice(self._uncommitted.since(self._next_queued), max(0, room)):
            reason = "broker_restarted" if sequence < self._of_lost_broker else "superseded"
            where = self.info.name, self.epoch, sequence, captured_ns, self._time_s(captured_ns)
            self._unsent.append(OutgoingFrame(NoFrame(*where, "dropped", reason), []))
            self._next_queued = sequence + 1
        return bool(self._unsent)

    def _capture(self) -> list[LiveFrame]:
        """Wait for pictures, not for long."""
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
        """Number a frame and put it in line; what can't go out at once is superseded by the next one."""
        captured_ns, picture, _ = live_frame
        self._first_ns = self._first_ns or captured_ns
        duration_s = self.options.settings.duration_s
        if duration_s and self._time_s(captured_ns) >= duration_s:
            self.end("")
            return
        self._uncommitted.add(self.next_sequence, captured_ns)
        clear = self.accepted and not self._unsent and self._next_queued == self.next_sequence
        if picture is None or not clear or self.credits <= 0:
            self.next_sequence += 1
            return
        picture = picture._replace(time_s=self._time_s(captured_ns))
        self._unsent.append(self.number(picture, captured_ns))
        self._next_queued = self.next_sequence

    def _time_s(self, captured_ns: int) -> float:
        return (captured_ns - (self._first_ns or captured_ns)) / 1e9

    def _failed(self, what: str) -> None:
        """The source is closed until it is opened again; after enough failures in a row it ends."""
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
