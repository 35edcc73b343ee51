"""Numbers and times of frames whose pixels are gone, in little memory however many they are."""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

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
