"""Faces over time: the track of each face, and the smoothed emotion of each track.

Faces are matched to tracks by overlap and distance, all at once (`lap.lapjv`); the probabilities of a track
are averaged over time. A new process that is given the state of the last one continues exactly as that one
would have, track numbers included."""

import math
from collections.abc import Sequence
from typing import Final

import lap
import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.common.labels import EMOTIONS
from stages.display.record import Box, Smoothed

Floats = NDArray[np.float64]

MAX_MISSED: Final = 50
"""Searched frames in a row without its face that end a track. Dropped frames don't count: they are no
evidence that a face is gone."""

MAX_UNSEEN_S: Final = 2.0
"""Seconds of the video without its face that end a track, however few frames were searched in them."""

REACH: Final = 0.3
REACH_PER_S: Final = 5.0
REACH_PER_S_AT_FIRST: Final = 10.0
MAX_REACH: Final = 2.0
"""How far a face may be from where its track is expected, in face sizes, up to a bound: some jitter, plus
what it may turn or brake in the time unseen. A track of one place has no velocity yet: it may move as far as
in a brisk walk (10 face sizes a second, about 1.5 m/s)."""

MAX_SIZE_RATIO: Final = 2.0
"""How much larger or smaller than its track a face may be."""

PLACES: Final = 6
"""The last places that a face's velocity is estimated from: detectors' boxes jitter by a few per cent, which
a longer way evens out."""

MAX_COAST_S: Final = 0.8
"""How long an unseen face is expected to keep its velocity."""

SIZE_COST: Final = 4.0
"""Weight of the logarithm of the sizes' ratio. Whoever hides another is nearer, and so larger: size tells two
people who cross apart best."""

COST_PER_S: Final = 0.5
MAX_UNSEEN_COST: Final = 0.5
"""Tracks unseen for longer cost more, so that one seen just now is preferred."""

COST_LIMIT: Final = 5.0
"""Cost of leaving a track without a face and a face without a track. Without a limit, a face that appears or
hides could shift the numbers of a whole row of people."""

_FORBIDDEN: Final = 1e4
"""Above the cost of all pairs of a frame together, and below 1e6, which `lap` treats as infinite."""


class TrackerState(msgspec.Struct, frozen=True):
    """The whole state of a tracker; arrays as in `Tracker.__init__`."""

    next_id: int = 1
    ids: list[int] = []
    sizes: list[tuple[float, float]] = []
    places: list[list[tuple[float, float, float]]] = []
    missed: list[int] = []


class Tracker:
    """The tracks of one source."""

    def __init__(self, state: TrackerState | None = None) -> None:
        """Continue from `state`."""
        state = state or TrackerState()
        self._next_id = state.next_id
        self._ids: NDArray[np.int64] = np.array(state.ids, np.int64)  # ascending
        self._sizes: Floats = np.array(state.sizes, np.float64).reshape(-1, 2)  # width, height, px
        # Time, s, and centre x, y, px; oldest first.
        self._places: Floats = np.array(state.places, np.float64).reshape(-1, PLACES, 3)
        self._missed: NDArray[np.int64] = np.array(state.missed, np.int64)  # frames in a row without it

    @property
    def state(self) -> TrackerState:
        """The whole state: a new tracker made from it continues as this one would."""
        return TrackerState(
            self._next_id,
            self._ids.tolist(),
            self._sizes.tolist(),
            self._places.tolist(),
            self._missed.tolist(),
        )

    def update(self, time_s: float, boxes: Sequence[Box]) -> list[int]:
        """Return the track of each box of a frame, in their order; new faces get the next numbers."""
        self._end_tracks(time_s)
        ids = self._match(time_s, _centred(boxes))
        for index, known in enumerate(ids):
            if known == 0:
                ids[index] = self._next_id
                self._next_id += 1
        self._take(time_s, boxes, ids)
        return ids

    def _take(self, time_s: float, boxes: Sequence[Box], ids: Sequence[int]) -> None:
        """Move the tracks to their boxes in a frame, and begin new ones."""
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

    def _end_tracks(self, time_s: float) -> None:
        """End the tracks that were not seen for too long before a frame at `time_s`."""
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
        """Return the track that each box continues, 0 for a new face."""
        ids = [0] * len(boxes)
        if len(boxes) and len(self._ids):
            costs = self._costs(time_s, boxes)
            _, columns, _ = lap.lapjv(costs, extend_cost=True, cost_limit=COST_LIMIT)
            for row, column in enumerate(columns):
                if column >= 0 and costs[row, column] < _FORBIDDEN:
                    ids[column] = int(self._ids[row])
        return ids

    def _costs(self, time_s: float, boxes: Floats) -> Floats:
        """Return the cost of matching each track (row) with each box (column)."""
        unseen_s, expected = self._expect(time_s)
        tracks, faces = expected[:, None], boxes[None]
        sizes = np.sqrt(np.maximum(tracks[..., 2] * tracks[..., 3], 1.0))
        others = np.sqrt(np.maximum(faces[..., 2] * faces[..., 3], 1.0))
        gaps = np.hypot(tracks[..., 0] - faces[..., 0], tracks[..., 1] - faces[..., 1])
        distances = gaps / ((sizes + others) / 2)
        ratios = np.maximum(sizes / others, others / sizes)
        moved = self._places[:, -1, 0] > self._places[:, 0, 0]  # so that its velocity is known
        per_s = np.where(moved, REACH_PER_S, REACH_PER_S_AT_FIRST)
        reach = np.minimum(REACH + per_s * unseen_s, MAX_REACH)[:, None]
        waited = np.minimum(COST_PER_S * unseen_s, MAX_UNSEEN_COST)[:, None]
        costs: Floats = 1.0 - _overlaps(tracks, faces) + distances + SIZE_COST * np.log(ratios) + waited
        costs[(distances > reach) | (ratios > MAX_SIZE_RATIO)] = _FORBIDDEN
        return costs

    def _expect(self, time_s: float) -> tuple[Floats, Floats]:
        """Return how long each track is unseen, s, and where it is expected now, centred boxes (n, 4)."""
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


LEAD: Final = 0.05
"""A new emotion is shown once its smoothed probability is this much above that of the one shown: else two
that are about as probable would alternate with the noise (docs/labels.md has other values)."""

SHORT: Final = 0.2
"""Time constant of the recent mean, as a share of `smoothing_s`."""

CLEAR_LEAD: Final = 0.2
"""A new emotion that leads by this much in the recent mean is shown at once, and the frames before it are
forgotten: they showed another expression."""

MOST_OF_A_FRAME: Final = 0.5
"""Largest share of the newest frame in the recent mean, so that at low rates too no single frame makes a
change."""

BAND: Final = 0.05
"""A face becomes uncertain this much below the threshold, and certain again this much above it: else a
confidence near it would flicker between the two."""


class SmoothedTrack(msgspec.Struct, frozen=True):
    """What is known of one track. Means are of the probabilities, in the order of EMOTIONS; a weight is that
    of all frames in its mean so far, the last one's being 1."""

    time_s: float  # of the last frame with its face
    weight: float
    mean: list[float]
    recent_weight: float
    recent: list[float]
    shown: int  # index into EMOTIONS
    uncertain: bool


class Smoother:
    """The shown emotions of one source."""

    def __init__(
        self,
        smoothing_s: float = 0.0,
        uncertain_below: float = 0.0,
        tracks: dict[int, SmoothedTrack] | None = None,
        *,
        lead: float = LEAD,
        clear_lead: float = CLEAR_LEAD,
    ) -> None:
        """Continue from `tracks`, by their numbers.

        A frame counts exp(-age / `smoothing_s`) as much as the newest; 0 turns smoothing off, and with it
        what holds a shown emotion: `lead`, `clear_lead` and BAND. Faces of less confidence than
        `uncertain_below` are marked as uncertain.
        """
        self._smoothing_s = smoothing_s
        self._uncertain_below = uncertain_below
        self._lead = lead
        self._clear_lead = clear_lead
        self._tracks = dict(tracks or {})

    @property
    def state(self) -> dict[int, SmoothedTrack]:
        """The state by track: a new smoother made from it continues as this one would."""
        return dict(self._tracks)

    def update(
        self, time_s: float, ids: Sequence[int], rows: Sequence[Sequence[float]], *, alone: bool = False
    ) -> list[Smoothed]:
        """Return what to show for each face of a frame.

        `ids` are the faces' tracks; `rows` their probabilities, rounded as in the record, seven each in the
        order of EMOTIONS. `alone`: the picture is not part of a video, so nothing is averaged.
        """
        if self._smoothing_s == 0 or alone:
            return [_smoothed(row, _highest(row), max(row) < self._uncertain_below) for row in rows]
        # A track unseen for this long has ended, and its number is not used again.
        self._tracks = {
            i: track for i, track in self._tracks.items() if time_s - track.time_s <= MAX_UNSEEN_S
        }
        return [self._update_track(time_s, track_id, row) for track_id, row in zip(ids, rows, strict=True)]

    def _update_track(self, time_s: float, track_id: int, row: Sequence[float]) -> Smoothed:
        before = self._tracks.get(track_id)
        track = self._begin(time_s, row) if before is None else self._go_on(before, time_s, row)
        self._tracks[track_id] = track
        return _smoothed(track.mean, track.shown, track.uncertain)

    def _begin(self, time_s: float, row: Sequence[float]) -> SmoothedTrack:
        mean, shown = list(row), _highest(row)
        return SmoothedTrack(time_s, 1.0, mean, 1.0, mean, shown, mean[shown] < self._uncertain_below)

    def _go_on(self, before: SmoothedTrack, time_s: float, row: Sequence[float]) -> SmoothedTrack:
        age_s = max(0.0, time_s - before.time_s)
        weight = 1.0 + before.weight * math.exp(-age_s / self._smoothing_s)
        mean = _moved(before.mean, row, weight)
        kept = max(math.exp(-age_s / (SHORT * self._smoothing_s)), 1.0 - MOST_OF_A_FRAME)
        recent_weight = 1.0 + before.recent_weight * kept
        recent = _moved(before.recent, row, recent_weight)
        shown = before.shown
        if recent[_highest(recent)] >= recent[shown] + self._clear_lead:
            shown, weight, mean = _highest(recent), recent_weight, recent
        elif mean[_highest(mean)] >= mean[shown] + self._lead:
            shown = _highest(mean)
        band = BAND if before.uncertain else -BAND
        uncertain = mean[shown] < self._uncertain_below + band
        return SmoothedTrack(time_s, weight, mean, recent_weight, recent, shown, uncertain)


def _moved(mean: Sequence[float], row: Sequence[float], weight: float) -> list[float]:
    """Return a mean with one more row in it; weight: of all rows, the last one's being 1."""
    return [old + (new - old) / weight for old, new in zip(mean, row, strict=True)]


def _smoothed(probabilities: Sequence[float], emotion: int, uncertain: bool) -> Smoothed:
    values = [round(value, 4) for value in probabilities]
    return Smoothed(
        emotion=EMOTIONS[emotion],
        confidence=values[emotion],
        uncertain=uncertain,
        probabilities=dict(zip(EMOTIONS, values, strict=True)),
    )


def _highest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
