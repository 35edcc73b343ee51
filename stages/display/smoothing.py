"""Labels that hold still: the probabilities of each track, averaged over time.

The state is a function of the records alone, as the tracker's is: `update` with what the records say brings
a new smoother to exactly the state of the one that wrote them, so that nothing changes when the process is
replaced.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from pipeline.common.labels import EMOTIONS
from stages.display.record import Smoothed
from stages.display.tracker import MAX_UNSEEN_S

LEAD: Final = 0.05
"""A new emotion is shown once its smoothed probability is so much above that of the one shown. Two emotions
that are nearly as probable change places with every few frames' noise: docs/labels.md has what other values
do."""


class SmoothedTrack(msgspec.Struct, frozen=True):
    """What is known of one track."""

    time_s: float  # of the last frame with its face
    weight: float  # of all frames so far, the last one's being 1
    mean: list[float]  # weighted mean of the probabilities, in the order of EMOTIONS
    shown: int  # index into EMOTIONS


class Smoother:
    """The shown emotions of one source."""

    def __init__(
        self,
        smoothing_s: float = 0.0,
        uncertain_below: float = 0.0,
        tracks: dict[int, SmoothedTrack] | None = None,
        lead: float = LEAD,
    ) -> None:
        """Go on from `tracks`, by their numbers.

        A frame counts exp(-age / `smoothing_s`) as much as the newest; 0 turns smoothing off, the change of
        emotions by `lead` included. Faces of less confidence than `uncertain_below` are marked as uncertain.
        """
        self._smoothing_s = smoothing_s
        self._uncertain_below = uncertain_below
        self._lead = lead
        self._tracks = dict(tracks or {})

    @property
    def state(self) -> dict[int, SmoothedTrack]:
        """All that this smoother knows, by track: a new one made from it goes on as this one would."""
        return dict(self._tracks)

    def update(
        self, time_s: float, ids: Sequence[int], rows: Sequence[Sequence[float]], *, alone: bool = False
    ) -> list[Smoothed]:
        """Return what to show for each face of a frame.

        `ids` are the faces' tracks; `rows` their probabilities as rounded for the record, seven each, in the
        order of EMOTIONS. `alone`: the picture is no moment of a scene, so that nothing is averaged.
        """
        if self._smoothing_s == 0 or alone:
            return [self._shown(row, _highest(row)) for row in rows]
        # A track unseen for so long has ended, and its number does not come again.
        self._tracks = {
            i: track for i, track in self._tracks.items() if time_s - track.time_s <= MAX_UNSEEN_S
        }
        return [self._update_track(time_s, track_id, row) for track_id, row in zip(ids, rows, strict=True)]

    def _update_track(self, time_s: float, track_id: int, row: Sequence[float]) -> Smoothed:
        before = self._tracks.get(track_id) or SmoothedTrack(time_s, 0.0, list(row), _highest(row))
        weight = 1.0 + before.weight * math.exp(-max(0.0, time_s - before.time_s) / self._smoothing_s)
        mean = [old + (new - old) / weight for old, new in zip(before.mean, row, strict=True)]
        leading = _highest(mean)
        shown = leading if mean[leading] >= mean[before.shown] + self._lead else before.shown
        self._tracks[track_id] = SmoothedTrack(time_s, weight, mean, shown)
        return self._shown(mean, shown)

    def _shown(self, probabilities: Sequence[float], emotion: int) -> Smoothed:
        values = [round(value, 4) for value in probabilities]
        return Smoothed(
            emotion=EMOTIONS[emotion],
            confidence=values[emotion],
            uncertain=values[emotion] < self._uncertain_below,
            probabilities=dict(zip(EMOTIONS, values, strict=True)),
        )


def _highest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
