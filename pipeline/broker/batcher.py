"""The crops that wait for classification, and the batches made of them, across frames and sources."""

from collections import deque
from dataclasses import dataclass

from pipeline.broker.ledger import Entry
from pipeline.emotions import FACE_SIZE
from pipeline.messages import CROP_BYTES, Buffer

assert FACE_SIZE * FACE_SIZE == CROP_BYTES


@dataclass(frozen=True, slots=True)
class Slice:
    """Some neighbouring faces of one frame."""

    entry: Entry
    start: int
    count: int
    since_ns: int  # when its crops came

    @property
    def crops(self) -> Buffer:
        """The faces' crops, grey uint8, (count, 48, 48)."""
        assert self.entry.crops is not None
        return memoryview(self.entry.crops)[self.start * CROP_BYTES : (self.start + self.count) * CROP_BYTES]


class Batcher:
    """Keeps slices in their order of arrival; suspects, over which a worker died, go alone."""

    def __init__(self, max_batch: int, max_delay_ns: int) -> None:
        self._max_batch = max_batch
        self._max_delay_ns = max_delay_ns
        self._waiting: deque[Slice] = deque()
        self._suspects: deque[Slice] = deque()

    def put(self, entry: Entry, now_ns: int) -> None:
        self._waiting.append(Slice(entry, 0, len(entry.faces), now_ns))

    def put_back(self, piece: Slice) -> None:
        """Return what a dead worker held; as with detection, one that killed it alone goes first."""
        if piece.entry.deaths_alone:
            self._suspects.appendleft(piece)
        else:
            self._suspects.append(piece)

    @property
    def suspects(self) -> bool:
        return bool(self._suspects)

    def remove(self, entry: Entry) -> None:
        """Forget a frame that has found its outcome."""
        self._waiting = deque(piece for piece in self._waiting if piece.entry is not entry)
        self._suspects = deque(piece for piece in self._suspects if piece.entry is not entry)

    def due_ns(self) -> int | None:
        """When the oldest crop has waited long enough; None if none waits."""
        return self._waiting[0].since_ns + self._max_delay_ns if self._waiting else None

    def take_suspect(self) -> Slice | None:
        return self._suspects.popleft() if self._suspects else None

    def take(self, now_ns: int) -> list[Slice]:
        """All that waits, up to the largest batch; nothing while company may still come."""
        due_ns = self.due_ns()
        if due_ns is None:
            return []
        if now_ns < due_ns and sum(piece.count for piece in self._waiting) < self._max_batch:
            return []
        batch: list[Slice] = []
        room = self._max_batch
        while self._waiting and room:
            piece = self._waiting.popleft()
            if piece.count > room:
                rest = Slice(piece.entry, piece.start + room, piece.count - room, piece.since_ns)
                self._waiting.appendleft(rest)
                piece = Slice(piece.entry, piece.start, room, piece.since_ns)
            batch.append(piece)
            room -= piece.count
        return batch
