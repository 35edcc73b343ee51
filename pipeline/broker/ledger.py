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
    SourceInfo,
    Status,
)

OTHER = "other"
"""Takes the place of further reasons, once MAX_REASONS different ones have occurred."""

Phase = Literal["waiting", "working", "resolved"]

Values = dict[str, NDArray[Any]]
"""Arrays by name; the first axis of each is the items of a frame."""


@dataclass(eq=False, slots=True)
class PendingFrame:
    """A frame from its arrival until its record is written."""

    header: Frame
    received_ns: int
    pixels: Buffer | None = None  # as the header's encoding says
    phase: Phase = "waiting"
    status: Status = "ok"
    reason: str = ""
    items: int = 0  # found in the frame
    values: Values = field(default_factory=dict)  # results of the steps
    missing: dict[str, int] = field(default_factory=dict)  # role -> items without a result
    deaths_alone: int = 0  # workers that died while they had this frame alone

    @property
    def source(self) -> str:
        return self.header.source

    @property
    def sequence(self) -> int:
        return self.header.sequence

    @property
    def held_bytes(self) -> int:
        return frame_bytes(self.header, self.pixels) + sum(array.nbytes for array in self.values.values())


def frame_bytes(header: Frame, pixels: Buffer | None) -> int:
    """Bytes of a frame's pixels, in a message or in shared memory."""
    if pixels is None or header.shape is None:
        return 0
    return math.prod(header.shape) if header.encoding == "shared" else len(pixels)


class Recall:
    """Where a live source's items were found last, so that most frames are searched near there only."""

    def __init__(self) -> None:
        self._search_due_ns = 0  # when a whole frame is searched again
        self._seen_ns = 0  # arrival of the newest frame whose items are known
        self._seen: NDArray[Any] | None = None

    def note(self, received_ns: int, found: NDArray[Any]) -> None:
        """Remember what was found, if this is the newest frame."""
        if received_ns > self._seen_ns:
            self._seen_ns, self._seen = received_ns, found

    def near(self, received_ns: int, interval_ns: int) -> NDArray[Any] | None:
        """Return the items to search near; None once in `interval_ns`: the whole frame is searched."""
        if received_ns >= self._search_due_ns or received_ns - self._seen_ns > 2 * interval_ns:
            self._search_due_ns = received_ns + interval_ns
            return None
        return self._seen


@dataclass(slots=True)
class Cursor:
    """How far the outcomes of a source have been delivered to display."""

    next_sequence: int = 0
    furthest: int = 0  # the most that any display was delivered
    last_turn: int = 0  # when this source was served last: sources take turns


class SourceLedger:
    """One source's frames without a written record, and the counts of those with one."""

    def __init__(self, info: SourceInfo, keep_pixels: bool) -> None:
        self.info = info
        self.keep_pixels = keep_pixels  # until the record is written: display draws on them
        self.epoch = 0  # of the capture process: 0 before the first one
        self.instance = ""  # of the last capture process
        self.committed = Committed()
        self.next_sequence = 0
        self.delivery = Cursor()
        self.largest_bytes = 3 * info.width * info.height  # of its frames so far
        self.ended = False
        self.error = ""
        self.recall = Recall()
        self.in_view: tuple[list[InView], int] = [], 0  # in the newest frame; how many more there are
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
        """Frames that have left the queue or mailbox and have no written record."""
        return sum(f.phase != "waiting" and f.status == "ok" for f in self.pending.values())

    @property
    def complete(self) -> bool:
        return self.ended and self.in_flight == 0

    def credible(self, committed: Committed) -> bool:
        """Whether this can be written: the counts add up and, once frames have come, it was delivered."""
        counts = committed.ok + committed.failed + sum(committed.dropped.values())
        reasons = len({*committed.dropped, OTHER})
        delivered = not self.epoch or committed.offset <= self.delivery.furthest
        return counts == committed.offset and reasons <= MAX_REASONS and delivered

    def merge(self, committed: Committed) -> None:
        """Adopt what another process says is written, if it is more and credible."""
        if committed.offset <= self.committed.offset or not self.credible(committed):
            return
        for sequence in [s for s in self.pending if s < committed.offset]:
            self._forget(sequence)
        self.committed = committed
        self.next_sequence = max(self.next_sequence, committed.offset)
        self.delivery.next_sequence = max(self.delivery.next_sequence, committed.offset)
        self.delivery.furthest = max(self.delivery.furthest, committed.offset)

    def expects(self, header: Frame) -> bool:
        """Whether this is the next frame, not a repeat nor one after a gap."""
        return not self.ended and header.sequence == self.next_sequence and header.epoch == self.epoch

    def receive(self, header: Frame, pixels: Buffer | None, now_ns: int) -> PendingFrame:
        """Open the account of the next frame."""
        frame = PendingFrame(header, now_ns, pixels)
        self.pending[header.sequence] = frame
        self.next_sequence += 1
        self.held_bytes += frame.held_bytes
        self.largest_bytes = max(self.largest_bytes, frame.held_bytes)
        if header.shape is None:
            self.resolve(frame, header.status, header.reason)
        return frame

    def near(self, frame: PendingFrame, step: Step) -> NDArray[Any] | None:
        """Return the items near which a frame is searched; None: it is searched everywhere.

        Files are always searched everywhere, so that their records don't depend on the order of answers.
        """
        if self.info.kind == "file" or not step.recall:
            return None
        return self.recall.near(frame.received_ns, round(step.recall_ms * 1e6))

    def found(self, frame: PendingFrame, items: int, values: Values, steps: Sequence[Step]) -> None:
        """Store what `steps[0]` has found in a frame. A frame without items is resolved by that."""
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
        """Store a step's results for the items from `start` on; the frame's last missing ones resolve it."""
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
        """Give a frame its outcome. Raises RuntimeError if it has one."""
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
        """Return the arrays for display; free those that only the steps needed."""
        for name in hidden & frame.values.keys():
            self.held_bytes -= frame.values.pop(name).nbytes
        return frame.values

    def _counted(self, reason: str) -> str:
        """Return the reason to count a dropped frame by: there is a limit to different ones."""
        pending = (frame.reason for frame in self.pending.values() if frame.status == "dropped")
        known = {OTHER, *self.committed.dropped, *pending}
        fits = len(reason) <= MAX_REASON_LENGTH and len(known) < MAX_REASONS
        return reason if reason in known or fits else OTHER

    def deliverable(self) -> PendingFrame | None:
        """The next frame in order, if it has its outcome."""
        frame = self.pending.get(self.delivery.next_sequence)
        return frame if frame is not None and frame.phase == "resolved" else None

    def deliver_again(self) -> None:
        """Deliver to a new display what its predecessor has not written."""
        self.delivery.next_sequence = self.committed.offset

    def delivering(self, turn: int) -> None:
        """The next outcome is being delivered; `turn` counts deliveries of all sources."""
        self.delivery.next_sequence += 1
        self.delivery.furthest = max(self.delivery.furthest, self.delivery.next_sequence)
        self.delivery.last_turn = turn

    def commit(self, offset: int) -> int:
        """Close the accounts of all frames before `offset`, whose records are written. Return how many."""
        offset = min(offset, self.delivery.next_sequence)  # what was not delivered can't be written
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
