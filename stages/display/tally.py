"""What was found in a run, counted as it is shown: one line at its end."""

from collections import Counter
from typing import Final

from stages.display.record import Record

NAMED_FROM: Final = 0.005
"""Share of the faces from which an emotion is named."""


class Tally:
    """Counts the frames that are ok, and their faces."""

    def __init__(self) -> None:
        self._frames = self._without = 0
        self._emotions: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        """Take in a record."""
        if record.status == "ok":
            self._frames += 1
            self._without += not record.faces
            shown = (face.smoothed for face in record.faces)
            self._emotions.update("uncertain" if s.uncertain else s.emotion for s in shown)

    def __str__(self) -> str:
        faces, emotions = self._emotions.total(), self._emotions.most_common()
        shares = ", ".join(f"{name} {n / faces:.0%}" for name, n in emotions if n / faces >= NAMED_FROM)
        found = f"faces found {faces:,} in {self._frames:,} frames; frames without a face {self._without:,}"
        return f"{found}; {shares}" if shares else found

    def __bool__(self) -> bool:
        return self._frames > 0
