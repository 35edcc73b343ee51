"""Which processes of this machine have joined, which hang, and when a dead one is restarted. Pure logic."""

from collections import deque
from collections.abc import Collection
from typing import Final

from pipeline.wire.messages import StatusReport

AWAY_S: Final = 10.0
"""How long remote stages may take to join again after a network failure."""

SILENCES: Final = 2
"""A stage must find a new broker within this many of its longest recent silences: its step may be long."""

REPORTS: Final = 40
"""Recent ones: the reports of ten seconds."""

BACK_OFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0)
STABLE_S: Final = 30.0
"""The back-off starts again for a process that has lived this long."""


class Watchdog:
    """Detects processes that hang, from the broker's reports."""

    def __init__(self, rejoin_s: float, away: Collection[str] = ()) -> None:
        """`rejoin_s`: how long stages may take to find a new broker.

        away: instances on other machines than the broker's; a network may hold up their heartbeats.
        """
        self.joined: set[str] = set()  # whose present process the broker has known
        self._rejoin_s = rejoin_s
        self._away = frozenset(away)
        self._broker = ""
        self._missing: dict[str, float] = {}  # instance -> when it is killed unless it is back
        self._silences: dict[str, deque[float]] = {}  # instance -> seconds, in the latest reports

    def started(self, instance: str) -> None:
        """A new process of this instance begins."""
        self.joined.discard(instance)
        self._silences.pop(instance, None)
        self._missing.pop(instance, None)

    def receive(self, report: StatusReport, now_s: float) -> None:
        """Take in a report of the stages of this machine."""
        present = {peer.instance for peer in report.peers if not peer.timed_out}
        if self._broker and report.broker != self._broker:
            for instance in self.joined:
                usual_s = max(self._silences.get(instance, [0.0]))
                rejoin_s = AWAY_S if instance in self._away else self._rejoin_s
                self._missing[instance] = now_s + max(rejoin_s, SILENCES * usual_s)
        self._broker = report.broker
        for peer in report.peers:
            if peer.timed_out:
                self._missing.setdefault(
                    peer.instance, now_s + (AWAY_S if peer.instance in self._away else 0.0)
                )
            else:
                self._silences.setdefault(peer.instance, deque(maxlen=REPORTS)).append(peer.silent_s)
        for instance in present:
            self._missing.pop(instance, None)
        self.joined |= present

    def overdue(self, now_s: float) -> set[str]:
        """Return the instances that hang, each once: SIGTERM does not reach them."""
        found = {instance for instance, until_s in self._missing.items() if now_s >= until_s}
        for instance in found:
            del self._missing[instance]
        return found


class Restarts:
    """Counts deaths: by role or source since it last made progress, and by process in a row."""

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._by_group: dict[str, int] = {}
        self._in_a_row: dict[str, int] = {}

    def progressed(self, sources: set[str], all_sources: set[str]) -> None:
        """Frames of `sources` are written: forget all deaths but those of other sources' captures."""
        stuck = all_sources - sources
        self._by_group = {group: deaths for group, deaths in self._by_group.items() if group in stuck}

    def died(self, group: str, process: str, lived_s: float) -> float | None:
        """Return after how many seconds to restart `process`; None if its group has died too often.

        A group is a role or, of capture processes, a source.
        """
        self._by_group[group] = self._by_group.get(group, 0) + 1
        if self._by_group[group] >= self._max_restarts:
            return None
        in_a_row = 0 if lived_s > STABLE_S else self._in_a_row.get(process, 0)
        self._in_a_row[process] = in_a_row + 1
        return BACK_OFF_S[min(in_a_row, len(BACK_OFF_S) - 1)]
