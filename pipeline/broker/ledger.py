"""The account of one source's frames: each has exactly one outcome, and outcomes leave in order.

For every source, at every moment: captured = ok + dropped + failed + in flight.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config.stage import Step
from pipeline.wire.messages import (
    MAX_REASON_LENGTH,
    MAX_REASONS,
    Buffer,
    Committed,
    Frame,
    InView,
    NoFrame,
    SourceInfo,
    Status,
)

OTHER = "other"
"""The reason of what is dropped for ever new ones."""

Phase = Literal["waiting", "working", "resolved"]

Values = dict[str, NDArray[Any]]
"""Arrays by name; the first axis of each is the items of a frame."""


@dataclass(eq=False, slots=True)
class PendingFrame:
    """A frame from its arrival until its outcome has been written."""

    header: Frame | NoFrame
    received_ns: int
    pixels: Buffer | None = None  # as the header's encoding says
    phase: Phase = "waiting"
    status: Status = "ok"
    reason: str = ""
    items: int = 0  # found in the frame
    values: Values = field(default_factory=dict)  # what the steps have found out
    missing: dict[str, int] = field(default_factory=dict)  # role -> items whose results are still to come
    deaths_alone: int = 0  # of workers, while they were trying this frame alone

    @property
    def source(self) -> str:
        return self.header.source

    @property
    def sequence(self) -> int:
        return self.header.sequence

    @property
    def held_bytes(self) -> int:
        return frame_bytes(self.header, self.pixels) + sum(array.nbytes for array in self.values.values())


def frame_bytes(header: Frame | NoFrame, pixels: Buffer | None) -> int:
    """What a frame's pixels take, here or in shared memory."""
    if pixels is None or isinstance(header, NoFrame):
        return 0
    return math.prod(header.shape) if header.encoding == "shared" else len(pixels)


class Recall:
    """Where the items of a live source were a moment ago, so that most frames need not be searched whole."""

    def __init__(self) -> None:
        self._search_due_ns = 0  # from when on a whole frame is searched
        self._seen_ns = 0  # when the newest frame whose items are known was received
        self._seen: NDArray[Any] | None = None

    def note(self, received_ns: int, found: NDArray[Any]) -> None:
        """Keep what was found in the newest frame."""
        if received_ns > self._seen_ns:
            self._seen_ns, self._seen = received_ns, found

    def near(self, received_ns: int, interval_ns: int) -> NDArray[Any] | None:
        """Return what to search near, or None: everywhere, as it is once in `interval_ns`."""
        if received_ns >= self._search_due_ns or received_ns - self._seen_ns > 2 * interval_ns:
            self._search_due_ns = received_ns + interval_ns
            return None
        return self._seen


@dataclass(slots=True)
class Cursor:
    """How far the outcomes of a source have been given to display."""

    next_sequence: int = 0
    furthest: int = 0  # all before it have been delivered to some display
    last_turn: int = 0  # among the sources


class SourceLedger:
    """All frames of one source that have no written outcome, and the count of those that have."""

    def __init__(self, info: SourceInfo, keep_pixels: bool) -> None:
        self.info = info
        self.keep_pixels = keep_pixels  # until written, because display draws on them
        self.epoch = 0  # of the capture process: 0 before the first one
        self.instance = ""  # of the last capture
        self.committed = Committed()
        self.next_sequence = 0
        self.delivery = Cursor()
        self.reasons: set[str] = set()  # for which frames have been dropped
        self.largest_bytes = 3 * info.width * info.height  # of a frame so far
        self.ended = False
        self.error = ""
        self.recall = Recall()
        self.in_view: list[InView] = []  # what the newest frame shows, and so many items more
        self.more = 0
        self.pending: dict[int, PendingFrame] = {}
        self.held_bytes = 0

    @property
    def captured(self) -> int:
        """Frames are numbered without gaps from 0, so the next number is their count."""
        return self.next_sequence

    @property
    def in_flight(self) -> int:
        return self.next_sequence - self.committed.offset

    @property
    def active(self) -> int:
        """Frames between the mailbox where a live frame waits and the writing of their outcome."""
        return sum(e.phase != "waiting" and e.status == "ok" for e in self.pending.values())

    @property
    def complete(self) -> bool:
        return self.ended and self.in_flight == 0

    def credible(self, committed: Committed) -> bool:
        """Whether so much can have been written: it adds up and, once frames come in here, was delivered."""
        counts = committed.ok + committed.failed + sum(committed.dropped.values())
        reasons = len({*committed.dropped, OTHER})
        delivered = not self.epoch or committed.offset <= self.delivery.furthest
        return counts == committed.offset and reasons <= MAX_REASONS and delivered

    def merge(self, committed: Committed) -> None:
        """Take over what another process knows to be written, if it is more and can be."""
        if committed.offset <= self.committed.offset or not self.credible(committed):
            return
        for sequence in [s for s in self.pending if s < committed.offset]:
            self._forget(sequence)
        self.committed = committed
        self.next_sequence = max(self.next_sequence, committed.offset)
        self.delivery.next_sequence = max(self.delivery.next_sequence, committed.offset)
        self.delivery.furthest = max(self.delivery.furthest, committed.offset)
        self.reasons |= committed.dropped.keys()

    def expects(self, header: Frame | NoFrame) -> bool:
        """Whether it is the next frame, and not a repeat or one behind a gap."""
        return not self.ended and header.sequence == self.next_sequence and header.epoch == self.epoch

    def receive(self, header: Frame | NoFrame, pixels: Buffer | None, now_ns: int) -> PendingFrame:
        """Open the account of the next frame."""
        frame = PendingFrame(header, now_ns, pixels)
        self.pending[header.sequence] = frame
        self.next_sequence += 1
        self.held_bytes += frame.held_bytes
        self.largest_bytes = max(self.largest_bytes, frame.held_bytes)
        if isinstance(header, NoFrame):
            self.resolve(frame, header.status, header.reason)
        return frame

    def near(self, frame: PendingFrame, step: Step) -> NDArray[Any] | None:
        """What a frame's search may keep to; None: it is searched everywhere.

        A file always is, so that its records do not depend on which worker was faster.
        """
        if self.info.kind == "file" or not step.recall:
            return None
        return self.recall.near(frame.received_ns, round(step.recall_ms * 1e6))

    def found(self, frame: PendingFrame, items: int, values: Values, steps: Sequence[Step]) -> None:
        """Note what `steps[0]` has found in a frame. Without items the frame is resolved, else the other
        steps' results are awaited."""
        if steps[0].recall:
            self.recall.note(frame.received_ns, values[steps[0].recall])
        if not self.keep_pixels:
            self._release_pixels(frame)
        frame.items = items
        frame.missing = {step.role: items for step in steps[1:] if items}
        self._hold(frame, values)
        if not frame.missing:
            self.resolve(frame, "ok")

    def worked(self, frame: PendingFrame, step: Step, start: int, values: Values) -> None:
        """Note the results of a step for the items from `start` on; the last of all resolve the frame."""
        count = len(next(iter(values.values())))
        if frame.missing[step.role] == frame.items:
            shapes = {array.name: ((frame.items, *array.shape), array.dtype) for array in step.gives}
            self._hold(frame, {name: np.zeros(*form) for name, form in shapes.items()})
        for name, rows in values.items():
            frame.values[name][start : start + count] = rows
        frame.missing[step.role] -= count
        if not any(frame.missing.values()):
            self.resolve(frame, "ok")

    def _hold(self, frame: PendingFrame, values: Values) -> None:
        frame.values |= values
        self.held_bytes += sum(array.nbytes for array in values.values())

    def resolve(self, frame: PendingFrame, status: Status, reason: str = "") -> None:
        """Give a frame its outcome. Raises RuntimeError if it has one: no frame may have two."""
        if frame.phase == "resolved":
            raise RuntimeError(f"frame {frame.sequence} of {frame.source!r} is resolved twice")
        if status == "dropped":
            reason = self._counted(reason)
        frame.phase, frame.status, frame.reason = "resolved", status, reason
        frame.missing = {}
        if status != "ok":
            self._release_pixels(frame)
            self.held_bytes -= sum(array.nbytes for array in frame.values.values())
            frame.items, frame.values = 0, {}

    def shown(self, frame: PendingFrame, hidden: frozenset[str]) -> Values:
        """Return what display is to be told; arrays that only the steps needed are let go."""
        for name in hidden & frame.values.keys():
            self.held_bytes -= frame.values.pop(name).nbytes
        return frame.values

    def _counted(self, reason: str) -> str:
        """Reasons are counted one by one, so there may not be any number of them."""
        if reason in self.reasons:
            return reason
        if len(reason) > MAX_REASON_LENGTH or len(self.reasons | {OTHER}) >= MAX_REASONS:
            reason = OTHER
        self.reasons.add(reason)
        return reason

    def deliverable(self) -> PendingFrame | None:
        """The next frame in order, if it has its outcome."""
        frame = self.pending.get(self.delivery.next_sequence)
        return frame if frame is not None and frame.phase == "resolved" else None

    def deliver_again(self) -> None:
        """What was delivered and not written must be delivered to a new display."""
        self.delivery.next_sequence = self.committed.offset

    def delivering(self, turn: int) -> None:
        """The next outcome goes to display; `turn` grows from one to the next among all sources."""
        self.delivery.next_sequence += 1
        self.delivery.furthest = max(self.delivery.furthest, self.delivery.next_sequence)
        self.delivery.last_turn = turn

    def commit(self, offset: int) -> int:
        """Close the accounts of all frames before `offset`, whose records are written. Return how many."""
        offset = min(offset, self.delivery.next_sequence)  # what was not delivered can't have been
        count = max(0, offset - self.committed.offset)
        ok, failed, dropped = self.committed.ok, self.committed.failed, dict(self.committed.dropped)
        for sequence in range(self.committed.offset, offset):
            frame = self._forget(sequence)
            ok += frame.status == "ok"
            failed += frame.status == "failed"
            if frame.status == "dropped":
                dropped[frame.reason] = dropped.get(frame.reason, 0) + 1
        self.committed = Committed(self.committed.offset + count, ok, failed, dropped)
        return count

    def _forget(self, sequence: int) -> PendingFrame:
        frame = self.pending.pop(sequence)
        self.held_bytes -= frame.held_bytes
        return frame

    def _release_pixels(self, frame: PendingFrame) -> None:
        if frame.pixels is not None:
            self.held_bytes -= frame_bytes(frame.header, frame.pixels)
            frame.pixels = None
