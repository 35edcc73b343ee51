"""The account of one source's frames: each has exactly one outcome, and outcomes leave in order.

For every source, at every moment: captured = ok + dropped + failed + in flight.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.common.labels import EMOTIONS
from pipeline.wire.limits import MAX_REASON_LENGTH, MAX_REASONS
from pipeline.wire.messages import CROP_BYTES, Box, Buffer, Face, Frame, NoFrame, Progress, SourceInfo, Status

OTHER = "other"
"""The reason of what is dropped for ever new ones."""

Phase = Literal["waiting", "detecting", "classifying", "resolved"]


@dataclass(eq=False, slots=True)
class PendingFrame:
    """A frame from its arrival until its outcome has been written."""

    header: Frame | NoFrame
    received_ns: int
    pixels: Buffer | None = None  # as the header's encoding says
    phase: Phase = "waiting"
    status: Status = "ok"
    reason: str = ""
    faces: list[Face] = field(default_factory=list)
    crops: Buffer | None = None  # uint8 grey, (faces, 48, 48)
    probabilities: NDArray[np.float32] | None = None  # (faces, 7)
    unclassified: int = 0  # faces whose probabilities are still to come
    deaths_alone: int = 0  # of workers, while they were trying this frame alone

    @property
    def source(self) -> str:
        return self.header.source

    @property
    def sequence(self) -> int:
        return self.header.sequence

    @property
    def held_bytes(self) -> int:
        return frame_bytes(self.header, self.pixels) + (0 if self.crops is None else len(self.crops))


def frame_bytes(header: Frame | NoFrame, pixels: Buffer | None) -> int:
    """What a frame's pixels take, here or in shared memory."""
    if pixels is None or isinstance(header, NoFrame):
        return 0
    return math.prod(header.shape) if header.encoding == "shared" else len(pixels)


class SourceLedger:
    """All frames of one source that have no written outcome, and the count of those that have."""

    def __init__(self, info: SourceInfo, keep_pixels: bool) -> None:
        self.info = info
        self.keep_pixels = keep_pixels  # until written, because display draws on them
        self.epoch = 0  # of the capture process: 0 before the first one
        self.slot = ""  # of the last capture
        self.progress = Progress()
        self.next_sequence = 0
        self.next_delivery = 0
        self.delivered = 0  # all before it have been delivered to some display
        self.reasons: set[str] = set()  # for which frames have been dropped
        self.last_turn = 0  # at display, among the sources
        self.largest_bytes = 3 * info.width * info.height  # of a frame so far
        self.ended = False
        self.error = ""
        self.search_due_ns = 0  # live: from when on a whole frame is searched
        self.seen_ns = 0  # live: when the newest frame whose faces are known was received
        self.seen_boxes: list[Box] = []
        self.entries: dict[int, PendingFrame] = {}
        self.held_bytes = 0

    @property
    def captured(self) -> int:
        """Frames are numbered without gaps from 0, so the next number is their count."""
        return self.next_sequence

    @property
    def in_flight(self) -> int:
        return self.next_sequence - self.progress.written

    @property
    def active(self) -> int:
        """Frames between the slot where a live frame waits and the writing of their outcome."""
        return sum(e.phase != "waiting" and e.status == "ok" for e in self.entries.values())

    @property
    def complete(self) -> bool:
        return self.ended and self.in_flight == 0

    def credible(self, progress: Progress) -> bool:
        """Whether so much can have been written: it adds up and, once frames come in here, was delivered."""
        counts = progress.ok + progress.failed + sum(progress.dropped.values())
        reasons = len({*progress.dropped, OTHER})
        delivered = not self.epoch or progress.written <= self.delivered
        return counts == progress.written and reasons <= MAX_REASONS and delivered

    def merge(self, progress: Progress) -> None:
        """Take over what another process knows to be written, if it is more and can be."""
        if progress.written <= self.progress.written or not self.credible(progress):
            return
        for sequence in [s for s in self.entries if s < progress.written]:
            self._forget(sequence)
        self.progress = progress
        self.next_sequence = max(self.next_sequence, progress.written)
        self.next_delivery = max(self.next_delivery, progress.written)
        self.delivered = max(self.delivered, progress.written)
        self.reasons |= progress.dropped.keys()

    def expects(self, header: Frame | NoFrame) -> bool:
        """Whether it is the next frame, and not a repeat or one behind a gap."""
        return not self.ended and header.sequence == self.next_sequence and header.epoch == self.epoch

    def receive(self, header: Frame | NoFrame, pixels: Buffer | None, now_ns: int) -> PendingFrame:
        """Open the account of the next frame."""
        entry = PendingFrame(header, now_ns, pixels)
        self.entries[header.sequence] = entry
        self.next_sequence += 1
        self.held_bytes += entry.held_bytes
        self.largest_bytes = max(self.largest_bytes, entry.held_bytes)
        if isinstance(header, NoFrame):
            self.resolve(entry, header.status, header.reason)
        return entry

    def around(self, entry: PendingFrame, interval_ns: int) -> list[Box] | None:
        """Where to search a live frame for faces: near those of a moment ago, or everywhere (None).

        `interval_ns`: how often everywhere. A file is always searched everywhere, so that its records do not
        depend on which worker was faster.
        """
        if self.info.kind == "file":
            return None
        now_ns = entry.received_ns
        if now_ns >= self.search_due_ns or now_ns - self.seen_ns > 2 * interval_ns:
            self.search_due_ns = now_ns + interval_ns
            return None
        return self.seen_boxes

    def detected(self, entry: PendingFrame, faces: list[Face], crops: Buffer) -> None:
        """Note a frame's faces. Without faces it is settled, else its crops wait for classification."""
        if entry.received_ns > self.seen_ns:
            self.seen_ns, self.seen_boxes = entry.received_ns, [face.box_px for face in faces]
        if not self.keep_pixels:
            self._release_pixels(entry)
        if not faces:
            self.resolve(entry, "ok")
            return
        entry.faces, entry.crops = faces, crops
        entry.probabilities = np.zeros((len(faces), len(EMOTIONS)), np.float32)
        entry.unclassified = len(faces)
        entry.phase = "classifying"
        self.held_bytes += len(faces) * CROP_BYTES

    def classified(self, entry: PendingFrame, start: int, probabilities: NDArray[np.float32]) -> None:
        """Note the probabilities (n, 7) of the faces from `start` on; the last ones settle the frame."""
        assert entry.probabilities is not None
        entry.probabilities[start : start + len(probabilities)] = probabilities
        entry.unclassified -= len(probabilities)
        if entry.unclassified == 0:
            self.resolve(entry, "ok")

    def resolve(self, entry: PendingFrame, status: Status, reason: str = "") -> None:
        """Give a frame its outcome. Raises RuntimeError if it has one: no frame may have two."""
        if entry.phase == "resolved":
            raise RuntimeError(f"frame {entry.sequence} of {entry.source!r} is settled twice")
        if status == "dropped":
            reason = self._counted(reason)
        entry.phase, entry.status, entry.reason = "resolved", status, reason
        if status != "ok":
            self._release_pixels(entry)
            entry.faces, entry.probabilities = [], None
        if entry.crops is not None:
            self.held_bytes -= len(entry.crops)
            entry.crops = None

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
        entry = self.entries.get(self.next_delivery)
        return entry if entry is not None and entry.phase == "resolved" else None

    def deliver_again(self) -> None:
        """What was delivered and not written must be delivered to a new display."""
        self.next_delivery = self.progress.written

    def delivering(self) -> None:
        """The next outcome goes to display."""
        self.next_delivery += 1
        self.delivered = max(self.delivered, self.next_delivery)

    def written(self, up_to: int) -> int:
        """Close the accounts of all frames before `up_to`: their outcomes are written. Return how many."""
        up_to = min(up_to, self.next_delivery)  # what was not delivered can't have been
        count = max(0, up_to - self.progress.written)
        ok, failed, dropped = self.progress.ok, self.progress.failed, dict(self.progress.dropped)
        for sequence in range(self.progress.written, up_to):
            entry = self._forget(sequence)
            ok += entry.status == "ok"
            failed += entry.status == "failed"
            if entry.status == "dropped":
                dropped[entry.reason] = dropped.get(entry.reason, 0) + 1
        self.progress = Progress(self.progress.written + count, ok, failed, dropped)
        return count

    def _forget(self, sequence: int) -> PendingFrame:
        entry = self.entries.pop(sequence)
        self.held_bytes -= entry.held_bytes
        return entry

    def _release_pixels(self, entry: PendingFrame) -> None:
        if entry.pixels is not None:
            self.held_bytes -= frame_bytes(entry.header, entry.pixels)
            entry.pixels = None
