"""Which face is the same person's as in the frame before: numbers the faces of one source.

Faces are matched to tracks by overlap and distance, all at once (`linear_sum_assignment`). Everything that
a tracker knows comes from records already written: `restore` with each of them brings a new one to exactly
the state of the one that wrote them, so that numbers stay the same when the process is replaced.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from stages.display.record import Box

Floats = NDArray[np.float64]

MAX_MISSED: Final = 15
"""Frames looked at in a row without its face that end a track. Dropped frames are not looked at: they are
no evidence that a face is gone."""

MAX_UNSEEN_S: Final = 2.0
"""Seconds of the video without its face that end a track, however few frames were looked at in them."""

REACH: Final = 0.5
REACH_PER_S: Final = 10.0
MAX_REACH: Final = 2.0
"""A face may be so far from where its track is expected, in face sizes: some jitter, and what a brisk walk
(10 face sizes a second, about 1.5 m/s) covers in the time unseen, up to a bound."""

MAX_SIZE_RATIO: Final = 2.0
"""A face may be so much larger or smaller than its track."""

VELOCITY_GAIN: Final = 0.3
"""How much of a newly measured velocity is believed: detectors' boxes jitter by a few per cent."""

MAX_COAST_S: Final = 0.4
"""How long an unseen face is expected to go on moving as it did."""

_FORBIDDEN: Final = 1e6


class Tracker:
    """The tracks of one source."""

    def __init__(self) -> None:
        self._next_id = 1
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)  # ascending
        self._boxes: Floats = np.zeros((0, 4))  # centre x, y, width, height; px, where last seen
        self._velocities: Floats = np.zeros((0, 2))  # px/s
        self._seen_s: Floats = np.zeros(0)  # when last seen, time of the video
        self._missed: NDArray[np.int64] = np.zeros(0, np.int64)  # frames in a row without it

    def update(self, time_s: float, boxes: Sequence[Box]) -> list[int]:
        """Return the track of each box of a frame, in their order; new faces get the next numbers.

        Boxes and time are as rounded for the record, since `restore` will know no others.
        """
        ids = self._match(time_s, _centred(boxes))
        next_id = self._next_id
        for index, known in enumerate(ids):
            if known == 0:
                ids[index] = next_id
                next_id += 1
        self.restore(time_s, boxes, ids)
        return ids

    def restore(self, time_s: float, boxes: Sequence[Box], ids: Sequence[int]) -> None:
        """Take over what an earlier process, or `update`, decided for a frame."""
        found = {int(track): row for row, track in enumerate(self._ids)}
        self._missed += 1
        for box, track in zip(_centred(boxes), ids, strict=True):
            if track in found:
                self._move(found[track], time_s, box)
            else:
                self._begin(track, time_s, box)
        self._forget(time_s)

    def _match(self, time_s: float, boxes: Floats) -> list[int]:
        """Return for each box the track that it continues, 0 if none."""
        ids = [0] * len(boxes)
        if len(boxes) and len(self._ids):
            costs = self._costs(time_s, boxes)
            for row, column in zip(*linear_sum_assignment(costs), strict=True):
                if costs[row, column] < _FORBIDDEN:
                    ids[column] = int(self._ids[row])
        return ids

    def _costs(self, time_s: float, boxes: Floats) -> Floats:
        """Return what it costs to take each track (row) for each box (column)."""
        unseen_s = np.maximum(time_s - self._seen_s, 0.0)
        expected = self._boxes.copy()
        expected[:, :2] += self._velocities * np.minimum(unseen_s, MAX_COAST_S)[:, None]
        tracks, faces = expected[:, None], boxes[None]
        sizes = np.sqrt(np.maximum(tracks[..., 2] * tracks[..., 3], 1.0))
        others = np.sqrt(np.maximum(faces[..., 2] * faces[..., 3], 1.0))
        gaps = np.hypot(tracks[..., 0] - faces[..., 0], tracks[..., 1] - faces[..., 1])
        distances = gaps / ((sizes + others) / 2)
        ratios = np.maximum(sizes / others, others / sizes)
        reach = np.minimum(REACH + REACH_PER_S * unseen_s, MAX_REACH)[:, None]
        costs: Floats = 1.0 - _overlaps(tracks, faces) + distances + np.log(ratios)
        costs[(distances > reach) | (ratios > MAX_SIZE_RATIO)] = _FORBIDDEN
        return costs

    def _move(self, row: int, time_s: float, box: Floats) -> None:
        elapsed_s = time_s - self._seen_s[row]
        if elapsed_s > 0:
            measured = (box[:2] - self._boxes[row, :2]) / elapsed_s
            self._velocities[row] += VELOCITY_GAIN * (measured - self._velocities[row])
        self._boxes[row] = box
        self._seen_s[row] = time_s
        self._missed[row] = 0

    def _begin(self, track: int, time_s: float, box: Floats) -> None:
        self._ids = np.append(self._ids, track)
        self._boxes = np.vstack([self._boxes, box])
        self._velocities = np.vstack([self._velocities, np.zeros(2)])
        self._seen_s = np.append(self._seen_s, time_s)
        self._missed = np.append(self._missed, 0)
        self._next_id = max(self._next_id, track + 1)

    def _forget(self, time_s: float) -> None:
        kept = (self._missed <= MAX_MISSED) & (time_s - self._seen_s <= MAX_UNSEEN_S)
        if kept.all():
            return
        self._ids, self._boxes, self._velocities = self._ids[kept], self._boxes[kept], self._velocities[kept]
        self._seen_s, self._missed = self._seen_s[kept], self._missed[kept]


def _centred(boxes: Sequence[Box]) -> Floats:
    """Return x, y, width, height boxes as centre x, y, width, height; float64 (n, 4)."""
    centred = np.array(boxes, np.float64).reshape(-1, 4)
    centred[:, :2] += centred[:, 2:] / 2
    return centred


def _overlaps(a: Floats, b: Floats) -> Floats:
    """Return intersection over union of centred boxes that broadcast, 0..1."""
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    inner = np.prod(np.maximum(high - low, 0.0), axis=-1)
    outer = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - inner
    overlaps: Floats = inner / np.maximum(outer, 1e-9)
    return overlaps
