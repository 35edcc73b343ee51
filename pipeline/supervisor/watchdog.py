"""Which stages of this machine take part, and which have to be killed since the broker misses them.

No clock and no process in here.
"""

from collections import deque
from typing import Final

from pipeline.wire.messages import StatusReport

AWAY_S: Final = 10.0
"""On another machine: how long a stage may take to come back, over a network that does."""


SILENCES: Final = 2
"""A new broker must be found within so many of a stage's longest silences of late: its step may be long."""

REPORTS: Final = 40
"""Reports that are late enough: the last ten seconds."""


class Attendance:
    """By slot, from the broker's reports."""

    def __init__(self, patience_s: float, broker_is_here: bool) -> None:
        """`patience_s`: how long stages may take to find a new broker of this machine."""
        self.joined: set[str] = set()  # whose present process the broker has known
        self._patience_s = patience_s if broker_is_here else AWAY_S
        self._given_up_s = 0.0 if broker_is_here else AWAY_S  # a network may have held its heartbeats up
        self._broker = ""
        self._missed: dict[str, float] = {}  # slot -> when its patience is over
        self._silences: dict[str, deque[float]] = {}  # slot -> seconds, in the latest reports

    def started(self, slot: str) -> None:
        """A new process begins in this slot."""
        self.joined.discard(slot)
        self._silences.pop(slot, None)
        self._missed.pop(slot, None)

    def hear(self, report: StatusReport, now_s: float) -> None:
        """Take in a report."""
        present = {peer.slot for peer in report.peers if not peer.given_up}
        if self._broker and report.broker != self._broker:
            for slot in self.joined:
                usual_s = max(self._silences.get(slot, [0.0]))
                self._missed[slot] = now_s + max(self._patience_s, SILENCES * usual_s)
        self._broker = report.broker
        for peer in report.peers:
            if peer.given_up:
                self._missed.setdefault(peer.slot, now_s + self._given_up_s)
            else:
                self._silences.setdefault(peer.slot, deque(maxlen=REPORTS)).append(peer.silent_s)
        for slot in present:
            self._missed.pop(slot, None)
        self.joined |= present

    def overdue(self, now_s: float) -> set[str]:
        """The slots of processes that hang: they hear nothing gentler than a kill. Told once."""
        found = {slot for slot, until_s in self._missed.items() if now_s >= until_s}
        for slot in found:
            del self._missed[slot]
        return found
