"""A live source's frames: the newest goes out, whatever can't is counted with its reason."""

import logging
import time
from collections import deque
from typing import Final

import msgspec

from pipeline.assignment import CaptureOptions
from pipeline.errors import UserError
from pipeline.messages import Frame, NoFrame, Welcome
from pipeline.worker import clock_ns
from stages.capture.feed import POLL_MS, Conversation, Feed, Item
from stages.capture.reader import Picture, Reader, SourceFailed, open_reader

FIRST_BACK_OFF_S: Final = 0.5
LONGEST_BACK_OFF_S: Final = 30.0

log = logging.getLogger(__name__)


class LiveFeed(Feed):
    """Reads at the source's rate; one that breaks off is opened again, after a while that grows."""

    def __init__(self, reader: Reader, options: CaptureOptions, max_frame_bytes: int) -> None:
        super().__init__(reader, options, max_frame_bytes)
        self._unwritten: deque[NoFrame] = deque()  # their outcomes should the broker vanish
        self._begun = False
        self._failures = 0  # in a row
        self._reopen_s: float | None = None  # when; None: it is open
        self._first_ns = 0

    def turn(self, session: Conversation) -> None:
        resting = self.ended is not None or self._back_off_ms() > 0
        wait_ms = min(POLL_MS, self._back_off_ms()) if self.ended is None else POLL_MS
        while self.listen(session, wait_ms) and not self.over:
            wait_ms = 0
        self.send(session)  # what has waited goes first, so that the newest frame finds its credit
        if not resting and self.ended is None and not self.over:
            self._capture()
        self.send(session)

    def welcome(self, welcome: Welcome) -> None:
        """What a vanished broker held is dropped, and counted so."""
        self.next_sequence = max(self.next_sequence, welcome.next_sequence)
        kept_from = self._unwritten[0].sequence if self._unwritten else self.next_sequence
        self._unwritten.extendleft(
            # Of an earlier process; the broker that had them is gone.
            NoFrame(self.info.name, self.epoch, sequence, clock_ns(), 0.0, "dropped", "broker_restarted")
            for sequence in reversed(range(welcome.next_sequence, kept_from))
        )
        self._unsent.extend(
            Item(lost, []) for lost in self._unwritten if lost.sequence >= welcome.next_sequence
        )

    def granted(self) -> None:
        self._begun = self._begun or self.credits > 0
        while self._unwritten and self._unwritten[0].sequence < self.progress.written:
            self._unwritten.popleft()

    def costs_credit(self, header: Frame | NoFrame) -> bool:
        return isinstance(header, Frame)

    def _capture(self) -> None:
        try:
            if self._reopen_s is not None:
                self.reader = open_reader(self.options.source, self.options.settings)
                self._reopen_s = None
            picture = self.reader.read()
        except (SourceFailed, UserError) as error:
            self._failed(str(error))
            return
        self._failures = 0
        if picture is None:
            self.end("")
        elif self._begun:  # before the run has begun, frames only keep the camera's buffer fresh
            self._take(picture)

    def _take(self, picture: Picture) -> None:
        """Number a frame and put it in line; without a credit it is superseded by the next one."""
        captured_ns = clock_ns()
        self._first_ns = self._first_ns or captured_ns
        item = self.number(picture._replace(time_s=(captured_ns - self._first_ns) / 1e9), captured_ns)
        header = item.header
        where = header.source, header.epoch, header.sequence, header.captured_ns, header.time_s
        lost = NoFrame(*where, "dropped", "broker_restarted")
        self._unwritten.append(lost)
        if not self.welcomed:
            return  # the next broker is told
        if self._unsent or self.credits <= 0:
            item = Item(msgspec.structs.replace(lost, reason="superseded"), [])
        self._unsent.append(item)

    def _failed(self, what: str) -> None:
        """Close the source until it is opened again; after enough failures in a row it ends."""
        self.reader.close()
        attempts = self.options.settings.reopen_attempts
        if self._failures >= attempts:
            self.end(f"{what}; given up after {attempts} attempts to open it again")
            return
        back_off_s = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2**self._failures)
        self._failures += 1
        self._reopen_s = time.monotonic() + back_off_s
        log.warning("%s; opened again in %.1f s", what, back_off_s)

    def _back_off_ms(self) -> int:
        if self._reopen_s is None:
            return 0
        return max(0, round(1000 * (self._reopen_s - time.monotonic())))
