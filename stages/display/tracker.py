"""Which face is the same person's as in the frame before: numbers the faces of one source.

Faces are matched to tracks by overlap and distance, all at once (`lap.lapjv`). Everything that
a tracker knows comes from records already written: `restore` with each of them since a checkpoint (`state`)
brings a new one to exactly the state of the one that wrote them, so that numbers stay the same when the
process is replaced. No track remembers more than its last few places, so that only the last records
(`MEMORY`) are gone through again.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

import lap
import msgspec
import numpy as np
from numpy.typing import NDArray

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

PLACES: Final = 6
"""A face's velocity is told from so many places where it was last seen: detectors' boxes jitter by a few per
cent, which a longer way evens out."""

MEMORY: Final = PLACES * (MAX_MISSED + 1)
"""Frames looked at after which what was seen no longer matters."""

MAX_COAST_S: Final = 0.4
"""How long an unseen face is expected to go on moving as it did."""

COST_PER_S: Final = 1.0
MAX_UNSEEN_COST: Final = 1.0
"""A track that was just seen has more claim to a face than one unseen for a while."""

COST_LIMIT: Final = 4.0
"""What it costs to leave a track without a face and a face without a track. If any pair were preferred to
that, a face that comes or hides could shift the numbers of a whole row of people."""

_FORBIDDEN: Final = 1e4
"""Above the cost of all pairs of a frame together, and below 1e6, which `lap` takes for infinite."""


class TrackerState(msgspec.Struct, frozen=True):
    """All that a tracker knows; the numbers as in `Tracker.__init__`."""

    next_id: int = 1
    ids: list[int] = []
    sizes: list[tuple[float, float]] = []
    places: list[list[tuple[float, float, float]]] = []
    missed: list[int] = []


class Tracker:
    """The tracks of one source."""

    def __init__(self, state: TrackerState | None = None, skip: int = 0) -> None:
        """Go on from `state`; the next `skip` numbers are left out."""
        state = state or TrackerState()
        self._next_id = state.next_id + skip
        self._ids: NDArray[np.int64] = np.array(state.ids, np.int64)  # ascending
        self._sizes: Floats = np.array(state.sizes, np.float64).reshape(-1, 2)  # width, height, px
        # Time, s, and centre x, y, px; oldest first.
        self._places: Floats = np.array(state.places, np.float64).reshape(-1, PLACES, 3)
        self._missed: NDArray[np.int64] = np.array(state.missed, np.int64)  # frames in a row without it
        self._restored: deque[tuple[float, Sequence[Box], Sequence[int]]] = deque(maxlen=MEMORY)

    @property
    def state(self) -> TrackerState:
        """All that this tracker knows: a new one made from it goes on as this one would."""
        self._catch_up()
        return TrackerState(
            self._next_id,
            self._ids.tolist(),
            self._sizes.tolist(),
            self._places.tolist(),
            self._missed.tolist(),
        )

    def update(self, time_s: float, boxes: Sequence[Box]) -> list[int]:
        """Return the track of each box of a frame, in their order; new faces get the next numbers.

        Boxes and time are as rounded for the record, since `restore` will know no others.
        """
        self._catch_up()
        ids = self._match(time_s, _centred(boxes))
        for index, known in enumerate(ids):
            if known == 0:
                ids[index] = self._next_id
                self._next_id += 1
        self._take(time_s, boxes, ids)
        return ids

    def restore(self, time_s: float, boxes: Sequence[Box], ids: Sequence[int]) -> None:
        """Take in what an earlier process decided for a frame, frame by frame, before the first `update`."""
        self._next_id = max(self._next_id, 1 + max(ids, default=0))
        self._restored.append((time_s, boxes, ids))

    def _catch_up(self) -> None:
        """Go through what was restored."""
        while self._restored:
            self._take(*self._restored.popleft())

    def _take(self, time_s: float, boxes: Sequence[Box], ids: Sequence[int]) -> None:
        """Move the tracks to where they were seen in a frame, begin new ones and end old ones."""
        seen = _centred(boxes)
        places = np.column_stack([np.full(len(seen), time_s), seen[:, :2]])
        for index in range(len(ids)):
            self._begin_if_new(ids[index], places[index])
        rows = np.searchsorted(self._ids, ids)
        self._missed += 1
        self._missed[rows] = 0
        self._sizes[rows] = seen[:, 2:]
        self._places[rows, :-1] = self._places[rows, 1:]
        self._places[rows, -1] = places
        kept = (self._missed <= MAX_MISSED) & (time_s - self._places[:, -1, 0] <= MAX_UNSEEN_S)
        if not kept.all():
            self._ids, self._sizes = self._ids[kept], self._sizes[kept]
            self._places, self._missed = self._places[kept], self._missed[kept]

    def _begin_if_new(self, track: int, place: Floats) -> None:
        row = int(np.searchsorted(self._ids, track))
        if row == len(self._ids) or self._ids[row] != track:
            self._ids = np.insert(self._ids, row, track)
            self._sizes = np.insert(self._sizes, row, 0.0, axis=0)
            self._places = np.insert(self._places, row, place, axis=0)
            self._missed = np.insert(self._missed, row, 0)

    def _match(self, time_s: float, boxes: Floats) -> list[int]:
        """Return for each box the track that it continues, 0 if none."""
        ids = [0] * len(boxes)
        if len(boxes) and len(self._ids):
            costs = self._costs(time_s, boxes)
            _, columns, _ = lap.lapjv(costs, extend_cost=True, cost_limit=COST_LIMIT)
            for row, column in enumerate(columns):
                if column >= 0 and costs[row, column] < _FORBIDDEN:
                    ids[column] = int(self._ids[row])
        return ids

    def _costs(self, time_s: float, boxes: Floats) -> Floats:
        """Return what it costs to take each track (row) for each box (column)."""
        unseen_s, expected = self._expect(time_s)
        tracks, faces = expected[:, None], boxes[None]
        sizes = np.sqrt(np.maximum(tracks[..., 2] * tracks[..., 3], 1.0))
        others = np.sqrt(np.maximum(faces[..., 2] * faces[..., 3], 1.0))
        gaps = np.hypot(tracks[..., 0] - faces[..., 0], tracks[..., 1] - faces[..., 1])
        distances = gaps / ((sizes + others) / 2)
        ratios = np.maximum(sizes / others, others / sizes)
        reach = np.minimum(REACH + REACH_PER_S * unseen_s, MAX_REACH)[:, None]
        waited = np.minimum(COST_PER_S * unseen_s, MAX_UNSEEN_COST)[:, None]
        costs: Floats = 1.0 - _overlaps(tracks, faces) + distances + np.log(ratios) + waited
        costs[(distances > reach) | (ratios > MAX_SIZE_RATIO)] = _FORBIDDEN
        return costs

    def _expect(self, time_s: float) -> tuple[Floats, Floats]:
        """Return how long each track is unseen, s, and where it should be by now, centred boxes (n, 4)."""
        unseen_s = np.maximum(time_s - self._places[:, -1, 0], 0.0)
        way = self._places[:, -1] - self._places[:, 0]
        took_s = np.where(way[:, 0] > 0, way[:, 0], np.inf)
        coasted = way[:, 1:] * (np.minimum(unseen_s, MAX_COAST_S) / took_s)[:, None]
        return unseen_s, np.hstack([self._places[:, -1, 1:] + coasted, self._sizes])


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
