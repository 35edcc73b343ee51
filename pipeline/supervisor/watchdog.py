"""Which stages of this machine take part, which have to be killed, and when a dead one is started again.

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

BACK_OFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0)
SETTLED_S: Final = 30.0
"""A process that lived so long begins its back-off anew."""


class Watchdog:
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
        """Take in a report of the stages of this machine."""
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
        """Return the slots of processes that hang, each once: SIGTERM does not reach them."""
        found = {slot for slot, until_s in self._missed.items() if now_s >= until_s}
        for slot in found:
            del self._missed[slot]
        return found


class Restarts:
    """Deaths by role since the last progress, and by process in a row."""

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._by_group: dict[str, int] = {}
        self._in_a_row: dict[str, int] = {}

    def progressed(self, sources: set[str], all_sources: set[str]) -> None:
        """Frames of `sources` have been written: what died before did not stop them.

        Deaths of another source's own capture still count: it may be the one that makes no progress.
        """
        stuck = all_sources - sources
        self._by_group = {group: deaths for group, deaths in self._by_group.items() if group in stuck}

    def died(self, group: str, process: str, lived_s: float) -> float | None:
        """Return after how many seconds to start `process` again; None if its group has died too often.

        A group is a role, or a source: each source's capture is counted for itself.
        """
        self._by_group[group] = self._by_group.get(group, 0) + 1
        if self._by_group[group] >= self._max_restarts:
            return None
        in_a_row = 0 if lived_s > SETTLED_S else self._in_a_row.get(process, 0)
        self._in_a_row[process] = in_a_row + 1
        return BACK_OFF_S[min(in_a_row, len(BACK_OFF_S) - 1)]
