"""Changes of the label a second, and the delay of true changes, from the records of a run."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from pipeline.common.labels import EMOTIONS
from stages.display.tracks import Smoother
from tools.steadiness.splice import FPS, HOLD, Change

LONGEST_GAP_S: Final = 0.5
"""Frames of a track that are further apart are not compared."""


class Seen(NamedTuple):
    """A face of a frame."""

    frame: int
    time_s: float
    track: int
    centre_px: tuple[float, float]
    own: str  # the emotion by this frame alone
    shown: str  # the emotion by its track
    uncertain: bool


class Steadiness(NamedTuple):
    """Of a clip: seconds of all tracks together, and changes a second of what is shown."""

    seconds: float
    own: float  # by each frame alone
    smoothed: float
    labelled: float  # with `uncertain` as a label of its own
    uncertain: float  # share of the faces


class Delays(NamedTuple):
    """Of true changes: seconds from the first frame whose own emotion is the new one until it is shown."""

    changes: int  # that the model sees: before and after, most frames' own emotion is the true one
    new_tracks: int  # of which the face got a new number, so that nothing had to be forgotten
    never: int  # not shown while the face was held
    median_s: float
    p90_s: float
    p95_s: float
    longest_s: float


class _Face(msgspec.Struct):
    track: int
    box: tuple[float, float, float, float]
    probabilities: dict[str, float]


class _Record(msgspec.Struct):
    frame: int
    time_s: float
    status: str
    faces: list[_Face]


def read_faces(results: Path, smoother: Smoother) -> list[Seen]:
    """Return the faces of a .jsonl file, with what another smoothing would have shown."""
    decoder = msgspec.json.Decoder(_Record)
    seen = []
    for line in results.read_bytes().splitlines():
        record = decoder.decode(line)
        if record.status != "ok":
            continue
        rows = [[face.probabilities[emotion] for emotion in EMOTIONS] for face in record.faces]
        shown = smoother.update(record.time_s, [face.track for face in record.faces], rows)
        for face, row, smoothed in zip(record.faces, rows, shown, strict=True):
            x, y, width, height = face.box
            centre = (x + width / 2, y + height / 2)
            own = EMOTIONS[int(np.argmax(row))]
            seen.append(
                Seen(
                    record.frame,
                    record.time_s,
                    face.track,
                    centre,
                    own,
                    smoothed.emotion,
                    smoothed.uncertain,
                )
            )
    return seen


def steadiness(faces: Sequence[Seen]) -> Steadiness:
    """Return how often what is shown changes."""
    last: dict[int, Seen] = {}
    seconds, own, smoothed, labelled = 0.0, 0, 0, 0
    for face in faces:
        before = last.get(face.track)
        last[face.track] = face
        if before is None or face.time_s - before.time_s > LONGEST_GAP_S:
            continue
        seconds += face.time_s - before.time_s
        own += face.own != before.own
        smoothed += face.shown != before.shown
        labels = [one.shown if not one.uncertain else "uncertain" for one in (before, face)]
        labelled += labels[0] != labels[1]
    spent = max(seconds, 1e-9)
    uncertain = sum(face.uncertain for face in faces) / max(len(faces), 1)
    return Steadiness(seconds, own / spent, smoothed / spent, labelled / spent, uncertain)


def delays(faces: Sequence[Seen], changes: Sequence[Change], reach_px: float) -> Delays:
    """Return how late the true changes are shown; a face within `reach_px` of a tile's centre is on it."""
    places: dict[tuple[float, float], list[Seen]] = defaultdict(list)
    centres = {change.place_px for change in changes}
    for face in faces:
        for centre in centres:
            if np.hypot(face.centre_px[0] - centre[0], face.centre_px[1] - centre[1]) <= reach_px:
                places[centre].append(face)
    found, never, new_tracks, counted = [], 0, 0, 0
    for change in changes:
        mine = places[change.place_px]
        before = [face for face in mine if change.frame - HOLD <= face.frame < change.frame]
        after = [face for face in mine if change.frame <= face.frame < change.frame + HOLD]
        if not (_mostly(before, change.old) and _mostly(after, change.new)):
            continue
        if after[0].track != before[-1].track:
            new_tracks += 1
            continue
        counted += 1
        first = next(face.frame for face in after if face.own == change.new)
        shown = next((face.frame for face in after if face.shown == change.new), None)
        if shown is None:
            never += 1
        found.append(((change.frame + HOLD if shown is None else shown) - first) / FPS)
    values = np.percentile(found or [np.nan], (50, 90, 95, 100))
    return Delays(counted, new_tracks, never, *(float(value) for value in values))


def _mostly(faces: Sequence[Seen], emotion: str) -> bool:
    """Return whether more than half of what the model says of a held face is this emotion."""
    return sum(face.own == emotion for face in faces) > HOLD / 2
