"""A live source's frames: the newest goes out, whatever can't is counted with its reason."""

import logging
import time
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from pipeline.assignment import CaptureOptions
from pipeline.errors import UserError
from pipeline.messages import Frame, NoFrame, SourceInfo, Welcome
from pipeline.worker import clock_ns
from stages.capture.feed import POLL_MS, Conversation, Feed, Item
from stages.capture.live_reader import Shot
from stages.capture.reader import SourceFailed
from stages.capture.spans import Spans
from stages.shared_frames import FrameWriter

FIRST_BACK_OFF_S: Final = 0.5
LONGEST_BACK_OFF_S: Final = 30.0
QUEUED: Final = 64  # outcomes made ready to be sent at once: as many as the socket's buffer takes
AHEAD: Final = 1024  # outcomes told and not yet written: after a long absence the broker is not flooded

log = logging.getLogger(__name__)


class Shots(Protocol):
    """What a feed needs of `live_reader.LiveReader`."""

    def take(self, timeout_s: float) -> list[Shot]: ...

    def stop(self) -> None: ...

    def close(self) -> bool: ...


class LiveFeed(Feed):
    """Reads at the source's rate; one that breaks off is opened again, after a while that grows."""

    def __init__(
        self, source: Shots, info: SourceInfo, reopen: Callable[[], Shots], options: CaptureOptions,
        max_frame_bytes: int, writer: FrameWriter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(info, options, max_frame_bytes, writer)
        self._source = source
        self._reopen = reopen
        self._unwritten = Spans()  # their outcomes should the broker vanish
        self._next_queued = 0  # all frames before are in the line of what is to be sent, or sent
        self._of_lost_broker = 0  # frames before this one are lost with a broker
        self._begun = False
        self._failures = 0  # in a row
        self._reopen_s: float | None = None  # when; None: it is open
        self._first_ns = 0

    def turn(self, session: Conversation) -> None:
        resting = self.ended is not None or self._back_off_ms() > 0
        shots = [] if resting else self._capture()
        wait_ms = (POLL_MS if self.ended is not None else min(POLL_MS, self._back_off_ms())) if resting else 0
        while self.listen(session, wait_ms) and not self.over:
            wait_ms = 0
        self.send(session)  # what has waited goes first, so that the newest frame finds its credit
        if self.ended is None and not self.over and self._begun:
            for shot in shots:
                self._take(shot)
                self.send(session)

    def welcome(self, welcome: Welcome) -> None:
        """What a vanished broker held is dropped, and counted so."""
        self.next_sequence = max(self.next_sequence, welcome.next_sequence)
        first = self._unwritten.first
        # Of an earlier process; the broker that had them is gone.
        self._unwritten.precede(
            welcome.next_sequence, self.next_sequence if first is None else first, clock_ns()
        )
        self._next_queued, self._of_lost_broker = welcome.next_sequence, self.next_sequence

    def granted(self) -> None:
        self._begun = self._begun or self.credits > 0
        self._unwritten.forget(self.progress.written)

    def end(self, error: str) -> None:
        super().end(error)
        self._source.stop()

    def close(self) -> bool:
        return self._source.close()

    def costs_credit(self, header: Frame | NoFrame) -> bool:
        return isinstance(header, Frame)

    def queue_more(self) -> bool:
        """Frames that are numbered and did not go out: only their outcomes are left to tell."""
        ahead = self._next_queued - self.progress.written
        room = QUEUED if self.ended is not None else min(QUEUED, AHEAD - ahead)  # the end is told behind all
        for sequence, captured_ns in islice(self._unwritten.since(self._next_queued), max(0, room)):
            reason = "broker_restarted" if sequence < self._of_lost_broker else "superseded"
            where = self.info.name, self.epoch, sequence, captured_ns, self._time_s(captured_ns)
            self._unsent.append(Item(NoFrame(*where, "dropped", reason), []))
            self._next_queued = sequence + 1
        return bool(self._unsent)

    def _capture(self) -> list[Shot]:
        """Wait for pictures, not for long."""
        if self._reopen_s is not None:
            self._source, self._reopen_s = self._reopen(), None
        try:
            shots = self._source.take(POLL_MS / 1000)
        except (SourceFailed, UserError) as error:
            self._failed(str(error))
            return []
        if shots and self._failures:
            log.info("%s: pictures come again", self.info.name)
            self._failures = 0
        return shots

    def _take(self, shot: Shot) -> None:
        """Number a frame and put it in line; what can't go out at once is superseded by the next one."""
        captured_ns, picture = shot
        self._first_ns = self._first_ns or captured_ns
        self._unwritten.add(self.next_sequence, captured_ns)
        clear = self.welcomed and not self._unsent and self._next_queued == self.next_sequence
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
            self.end(f"{what}; given up after {attempts} attempts to open it again")
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
