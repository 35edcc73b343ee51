"""Whether and when a dead process is started again. No clock and no process in here."""

from typing import Final

BACK_OFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0)
SETTLED_S: Final = 30.0
"""A process that lived so long begins its back-off anew."""


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
