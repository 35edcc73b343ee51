"""Peers that send what they may not: counted by connection and, past a limit, no longer listened to."""

from collections import OrderedDict
from typing import Final

LIMIT: Final = 100
"""Messages that may not be sent, over one connection: an honest stage that is confused comes to a few."""

REMEMBERED: Final = 1024
"""Connections of which the count is kept: those that offended last."""

NOTES: Final = 10
NOTES_NS: Final = 10_000_000_000
"""So many lines in so long: connections cost a stranger nothing, and each could bring a line into the log."""


class Offenders:
    """The counts, and what is said of them."""

    def __init__(self) -> None:
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._notes_left = NOTES
        self._unsaid = 0
        self._next_notes_ns = 0

    def __contains__(self, identity: bytes) -> bool:
        """Whether it has come past the limit."""
        return self._counts.get(identity, 0) >= LIMIT

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, identity: bytes) -> int:
        """Count one more, and return how many they are now."""
        count = self._counts[identity] = self._counts.pop(identity, 0) + 1
        if len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)
        return count

    def say(self, text: str, now_ns: int) -> list[str]:
        """Return the lines for the log: this one, or none if there were many lately."""
        lines = []
        if now_ns >= self._next_notes_ns:
            if self._unsaid:
                lines.append(f"{self._unsaid} more lines like these were left out")
            self._notes_left, self._unsaid, self._next_notes_ns = NOTES, 0, now_ns + NOTES_NS
        if self._notes_left:
            self._notes_left -= 1
            return [*lines, text]
        self._unsaid += 1
        return lines
