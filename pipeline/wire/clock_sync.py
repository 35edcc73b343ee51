"""How far this machine's clock is off the broker's, from questions and answers as NTP asks them.

A question is sent, the broker notes its time, the answer comes: half the round trip is the most by which
the broker's time can be misplaced. As in NTP's clock filter (RFC 5905, section 10) the answer with the least
error counts, and errors grow with age, since two clocks drift apart.
"""

from dataclasses import dataclass
from typing import Final

DRIFT: Final = 500e-6
"""By how much two clocks may run apart: a kernel slews its clock by as much to follow NTP (MAXFREQ of
linux/timex.h); crystals alone differ by far less. RFC 5905 assumes 15e-6 (PHI)."""

FIRST_ANSWERS: Final = 4
"""Answers that make a clock known, to questions that were asked after the broker's first answer: the earlier
ones may have waited for it to start, so that their round trips say little."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer."""

    offset_ns: int  # the broker's clock less this one
    error_ns: int  # when it came
    received_ns: int

    def error_at(self, now_ns: int) -> int:
        """By how much the offset may be wrong by now."""
        return self.error_ns + round(DRIFT * (now_ns - self.received_ns))


class ClockOffset:
    """The best that is known of a broker's clock."""

    def __init__(self) -> None:
        self._best: Sample | None = None
        self._answers = 0  # to questions asked after the first answer
        self._first_ns: int | None = None  # when the first answer came

    @property
    def known(self) -> bool:
        """Whether enough answers have come to rely on it."""
        return self._answers >= FIRST_ANSWERS

    @property
    def offset_ns(self) -> int:
        """What to add to this machine's monotonic clock; 0 before the first answer."""
        return self._best.offset_ns if self._best else 0

    def error_ns(self, now_ns: int) -> int:
        """By how much the offset may be wrong at `now_ns`; 0 before the first answer."""
        return self._best.error_at(now_ns) if self._best else 0

    def answer(self, sent_ns: int, broker_ns: int, received_ns: int) -> None:
        """Take in an answer: sent and received on this machine's clock. One from the future is ignored."""
        if sent_ns > received_ns:
            return
        if self._first_ns is None:
            self._first_ns = received_ns
        self._answers += sent_ns >= self._first_ns
        middle_ns, half_ns = (sent_ns + received_ns) // 2, (received_ns - sent_ns + 1) // 2
        sample = Sample(broker_ns - middle_ns, half_ns, received_ns)
        if self._best is None or _beats(sample, self._best):
            self._best = sample


def _beats(new: Sample, best: Sample) -> bool:
    """Whether a new answer says more than the best one. All errors grow alike: one is enough to keep.

    Two that contradict each other tell that a clock has jumped: a machine was suspended.
    """
    error_ns = best.error_at(new.received_ns)
    return new.error_ns <= error_ns or abs(new.offset_ns - best.offset_ns) > new.error_ns + error_ns
