"""Work that waits for a step. Frames: round robin by source, live before file, with a least share for files.
Items: in their order of arrival, gathered into batches."""

from collections import OrderedDict, deque
from dataclasses import dataclass

from pipeline.broker.ledger import PendingFrame
from pipeline.config.stage import Step
from pipeline.wire.messages import SourceKind


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
        self._max_batch = step.max_batch
        self._max_delay_ns = round(step.max_delay_ms * 1e6)
        self._waiting: deque[ItemRange] = deque()
        self._quarantined: deque[ItemRange] = deque()

    def put(self, frame: PendingFrame, now_ns: int) -> None:
        self._waiting.append(ItemRange(frame, 0, frame.items, now_ns))

    def put_back(self, piece: ItemRange) -> None:
        """Quarantine what a dead worker held; a frame that has killed a worker alone comes first."""
        if piece.frame.deaths_alone:
            self._quarantined.appendleft(piece)
        else:
            self._quarantined.append(piece)

    def waiting(self, now_ns: int) -> tuple[int, int]:
        """How many items wait, and for how long the first of them has, ns."""
        pieces = [*self._quarantined, *self._waiting]
        since_ns = min((piece.since_ns for piece in pieces), default=now_ns)
        return sum(piece.count for piece in pieces), now_ns - since_ns

    def remove(self, frame: PendingFrame) -> None:
        """Drop the items of a frame that is resolved."""
        self._waiting = deque(piece for piece in self._waiting if piece.frame is not frame)
        self._quarantined = deque(piece for piece in self._quarantined if piece.frame is not frame)

    def due_ns(self) -> int | None:
        """When the oldest item has waited for `max_delay_ms`; None if none waits."""
        return self._waiting[0].since_ns + self._max_delay_ns if self._waiting else None

    def has_quarantined(self) -> bool:
        return bool(self._quarantined)

    def take_quarantined(self) -> ItemRange | None:
        return self._quarantined.popleft() if self._quarantined else None

    def take(self, now_ns: int) -> list[ItemRange]:
        """Take up to the largest batch; nothing while the oldest item may still wait for others."""
        due_ns = self.due_ns()
        if due_ns is None:
            return []
        if now_ns < due_ns and sum(piece.count for piece in self._waiting) < self._max_batch:
            return []
        batch: list[ItemRange] = []
        room = self._max_batch
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
        self._queues: dict[SourceKind, OrderedDict[str, deque[PendingFrame]]] = {
            "live": OrderedDict(),
            "file": OrderedDict(),
        }
        self.quarantined: deque[PendingFrame] = deque()
        self._occupied_ns: dict[str, int] = {}  # live: since when a source waits, whichever frame of it does

    def put_live(self, frame: PendingFrame) -> PendingFrame | None:
        """Put a live source's newest frame into its mailbox; return the frame that it replaces."""
        mailbox = self._queues["live"].setdefault(frame.source, deque())
        replaced = mailbox.pop() if mailbox else None
        if replaced is None:
            self._occupied_ns[frame.source] = frame.received_ns
        mailbox.append(frame)
        return replaced

    def put_file(self, frame: PendingFrame) -> None:
        self._queues["file"].setdefault(frame.source, deque()).append(frame)

    def put_quarantined(self, frame: PendingFrame) -> None:
        """A frame that has killed a worker alone comes first, so that it is resolved soon."""
        if frame.deaths_alone:
            self.quarantined.appendleft(frame)
        else:
            self.quarantined.append(frame)

    def remove(self, frame: PendingFrame) -> None:
        """Drop a frame that was resolved while it waited."""
        for queue in [self.quarantined, *(q for kind in self._queues.values() for q in kind.values())]:
            if frame in queue:
                queue.remove(frame)

    def waiting(self, now_ns: int) -> tuple[int, int]:
        """How many frames wait, and for how long the source has that waits longest, ns.

        A live source's frame is always young, since the next one takes its place: how long the source waits
        counts.
        """
        live = [self._occupied_ns[name] for name, mailbox in self._queues["live"].items() if mailbox]
        files = [queue[0].received_ns for queue in self._queues["file"].values() if queue]
        since_ns = [*live, *files, *(frame.received_ns for frame in self.quarantined)]
        count = len(self.quarantined) + sum(len(q) for kind in self._queues.values() for q in kind.values())
        return count, now_ns - min(since_ns, default=now_ns)

    def live_waiting(self) -> list[PendingFrame]:
        return [mailbox[0] for mailbox in self._queues["live"].values() if mailbox]

    def take(self, *, live: bool, blocked: frozenset[str] = frozenset()) -> PendingFrame | None:
        """Take the next frame for a worker; a live one only if `live`, and of no `blocked` source."""
        candidate = self._peek("live", blocked) if live else None
        if candidate is None:
            return self._pop("file", frozenset())
        if self._peek("file", frozenset()) is None:
            return self._pop("live", blocked)
        self._file_credit += self._file_share
        if self._file_credit < 1:
            return self._pop("live", blocked)
        self._file_credit -= 1
        return self._pop("file", frozenset())

    def _peek(self, kind: SourceKind, blocked: frozenset[str]) -> str | None:
        return next((name for name, q in self._queues[kind].items() if q and name not in blocked), None)

    def _pop(self, kind: SourceKind, blocked: frozenset[str]) -> PendingFrame | None:
        name = self._peek(kind, blocked)
        if name is None:
            return None
        self._queues[kind].move_to_end(name)  # it comes last in the next round
        return self._queues[kind][name].popleft()
