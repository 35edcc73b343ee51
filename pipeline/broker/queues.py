"""Work that waits for a step. Frames: round robin by source, live before file, with a least share for files.
Items: in their order of arrival, gathered into batches."""

from collections import deque
from dataclasses import dataclass

from pipeline.broker.ledger import PendingFrame
from pipeline.config.stage import Step


@dataclass(frozen=True, slots=True)
class ItemRange:
    """Consecutive items of one frame; none: the frame as a whole."""

    frame: PendingFrame
    start: int
    count: int
    since_ns: int  # when they arrived


class ItemQueue:
    """The items that wait for a step. Those whose worker died are quarantined: they are sent alone."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self._max_delay_ns = round(step.max_delay_ms * 1e6)
        self._waiting: deque[ItemRange] = deque()
        self.quarantined: deque[ItemRange] = deque()

    def put(self, frame: PendingFrame, now_ns: int) -> None:
        self._waiting.append(ItemRange(frame, 0, frame.items, now_ns))

    def put_back(self, piece: ItemRange) -> None:
        """Quarantine what a dead worker held; a frame that has killed a worker alone comes first."""
        if piece.frame.deaths_alone:
            self.quarantined.appendleft(piece)
        else:
            self.quarantined.append(piece)

    def waiting(self, now_ns: int) -> tuple[int, int]:
        """How many items wait, and for how long the first of them has, ns."""
        pieces = [*self.quarantined, *self._waiting]
        since_ns = min((piece.since_ns for piece in pieces), default=now_ns)
        return sum(piece.count for piece in pieces), now_ns - since_ns

    def remove(self, frame: PendingFrame) -> None:
        """Drop the items of a frame that is resolved."""
        self._waiting = deque(piece for piece in self._waiting if piece.frame is not frame)
        self.quarantined = deque(piece for piece in self.quarantined if piece.frame is not frame)

    def due_ns(self) -> int | None:
        """When the oldest item has waited for `max_delay_ms`; None if none waits."""
        return self._waiting[0].since_ns + self._max_delay_ns if self._waiting else None

    def take(self, now_ns: int) -> list[ItemRange]:
        """Take up to the largest batch; nothing while the oldest item may still wait for others."""
        due_ns = self.due_ns()
        if due_ns is None:
            return []
        if now_ns < due_ns and sum(piece.count for piece in self._waiting) < self.step.max_batch:
            return []
        batch: list[ItemRange] = []
        room = self.step.max_batch
        while self._waiting and room:
            piece = self._waiting.popleft()
            if piece.count > room:
                rest = ItemRange(piece.frame, piece.start + room, piece.count - room, piece.since_ns)
                self._waiting.appendleft(rest)
                piece = ItemRange(piece.frame, piece.start, room, piece.since_ns)
            batch.append(piece)
            room -= piece.count
        return batch


class FrameQueue:
    """The frames that wait for the first step.

    A live source has a mailbox: its newest frame replaces the one that waited. A file has a queue as long as
    its window. Frames whose worker died are quarantined: they are sent alone.
    """

    def __init__(self, file_share: float) -> None:
        self._file_share = file_share
        self._file_credit = 0.0
        self._mailboxes: dict[str, tuple[PendingFrame, int]] = {}  # and since when a frame waits there, ns
        self._files: dict[str, deque[PendingFrame]] = {}
        self.quarantined: deque[PendingFrame] = deque()

    def put_live(self, frame: PendingFrame) -> PendingFrame | None:
        """Put a live source's newest frame into its mailbox; return the frame that it replaces."""
        replaced, since_ns = self._mailboxes.get(frame.source, (None, frame.received_ns))
        self._mailboxes[frame.source] = frame, since_ns
        return replaced

    def put_file(self, frame: PendingFrame) -> None:
        self._files.setdefault(frame.source, deque()).append(frame)

    def put_quarantined(self, frame: PendingFrame) -> None:
        """A frame that has killed a worker alone comes first, so that it is resolved soon."""
        if frame.deaths_alone:
            self.quarantined.appendleft(frame)
        else:
            self.quarantined.append(frame)

    def remove(self, frame: PendingFrame) -> None:
        """Drop a frame that was resolved while it waited."""
        if frame in self.live_waiting():
            del self._mailboxes[frame.source]
        for queue in [self.quarantined, *self._files.values()]:
            if frame in queue:
                queue.remove(frame)

    def waiting(self, now_ns: int) -> tuple[int, int]:
        """How many frames wait, and for how long the source has that waits longest, ns.

        A live source's frame is always young, since the next one takes its place: how long the source waits
        counts.
        """
        since_ns = [since_ns for _, since_ns in self._mailboxes.values()]
        since_ns += [
            frame.received_ns for queue in [self.quarantined, *self._files.values()] for frame in queue
        ]
        return len(since_ns), now_ns - min(since_ns, default=now_ns)

    def live_waiting(self) -> list[PendingFrame]:
        return [frame for frame, _ in self._mailboxes.values()]

    def take(self, *, live: bool, blocked: frozenset[str] = frozenset()) -> PendingFrame | None:
        """Take the next frame for a worker; a live one only if `live`, and of no `blocked` source."""
        camera = next((name for name in self._mailboxes if live and name not in blocked), None)
        file = next((name for name, queue in self._files.items() if queue), None)
        if camera and file:
            self._file_credit += self._file_share
            if self._file_credit < 1:
                file = None
            else:
                self._file_credit -= 1
                camera = None
        if camera:
            return self._mailboxes.pop(camera)[0]
        if file is None:
            return None
        self._files[file] = self._files.pop(file)  # it comes last in the next round
        return self._files[file].popleft()
