"""The record of a frame: what is written for it, and published; and what its emotions are called.

Values are rounded once, here. Tracks, smoothing and drawing work with the rounded ones, so that they can be
made again from a results file."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from pipeline.common.labels import EMOTIONS
from pipeline.wire.messages import Committed, Delivery, Status

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the source, to a tenth."""

Extra = float | list[float]


class Smoothed(msgspec.Struct, frozen=True):
    """What is shown of a face: its probabilities averaged along its track."""

    emotion: str
    confidence: float  # the averaged probability of `emotion`
    uncertain: bool  # whether `confidence` is too low to be shown: display.uncertain_below
    probabilities: dict[str, float]


class FaceRecord(msgspec.Struct, frozen=True):
    """One face of a frame. Its emotion, confidence and probabilities are this frame's own."""

    track: int  # the same person's number in later frames; from 1, unique in the source
    box: Box
    emotion: str
    confidence: float  # the probability of `emotion`
    probabilities: dict[str, float]
    smoothed: Smoothed
    extras: dict[str, Extra] | UnsetType = UNSET  # what further steps say of the face, by the array's name


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One captured frame and what became of it; the fields stand in the order of the JSON."""

    source: str
    frame: int  # from 0, never restarts within a run
    time_s: float
    status: Status
    reason: str | UnsetType = UNSET  # unless ok
    latency_ms: float  # captured to here, on the broker's clock
    file: str | UnsetType = UNSET  # only of a folder's pictures
    size: tuple[int, int] | UnsetType = (
        UNSET  # width and height of the frame, px, unless it brought no pixels
    )
    faces: list[FaceRecord]


def to_json(record: Record) -> bytes:
    """Return the record as one line of JSON, without the line's end."""
    return msgspec.json.encode(record)


def round_box(box_px: tuple[float, float, float, float]) -> Box:
    """Return the box to a tenth of a pixel; adding 0.0 makes -0.0 a plain zero."""
    x, y, width, height = (round(value, 1) + 0.0 for value in box_px)
    return x, y, width, height


def round_time(time_s: float) -> float:
    """Return the time to a tenth of a millisecond."""
    return round(time_s, 4)


def round_rows(probabilities: NDArray[np.float32]) -> list[list[float]]:
    """Return probabilities (faces, 7) as lists, to four digits."""
    return [[round(value, 4) for value in row] for row in probabilities.tolist()]


def make_record(
    delivery: Delivery,
    boxes: list[Box],
    tracks: list[int],
    rows: list[list[float]],
    smoothed: list[Smoothed],
    now_ns: int,
    extras: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> Record:
    """Return the record of a delivery.

    `boxes`, `tracks`, `rows` (the rounded probabilities, seven each in the order of EMOTIONS) and `smoothed`
    belong together, as do the rows of `extras`, what further steps give; a frame that is not `ok` has none.
    """
    ok = delivery.status == "ok"
    together = enumerate(zip(boxes, tracks, rows, smoothed, strict=True))
    faces = [_make_face(*face, _extras(extras, number)) for number, face in together]
    return Record(
        source=delivery.source,
        frame=delivery.sequence,
        time_s=round_time(delivery.time_s),
        status=delivery.status,
        reason=UNSET if ok else delivery.reason,
        latency_ms=round(max(0, now_ns - delivery.captured_ns) / 1e6, 2),
        file=delivery.file or UNSET,
        size=delivery.size or UNSET,
        faces=faces,
    )


def _extras(extras: Mapping[str, NDArray[Any]], number: int) -> dict[str, Extra]:
    """Return what further steps say of a face, to four decimals."""
    return {name: np.round(values[number].astype(float), 4).tolist() for name, values in extras.items()}


def _make_face(
    box: Box, track: int, row: list[float], smoothed: Smoothed, extras: dict[str, Extra]
) -> FaceRecord:
    best = max(range(len(row)), key=row.__getitem__)
    return FaceRecord(
        track=track,
        box=box,
        emotion=EMOTIONS[best],
        confidence=row[best],
        probabilities=dict(zip(EMOTIONS, row, strict=True)),
        smoothed=smoothed,
        extras=extras or UNSET,
    )


def advance(committed: Committed, frame: int, status: str, reason: str) -> Committed:
    """Return what is committed once the outcome of `frame` is written too."""
    dropped = committed.dropped
    if status == "dropped":
        dropped = {**dropped, reason: dropped.get(reason, 0) + 1}
    return Committed(
        offset=frame + 1,
        ok=committed.ok + (status == "ok"),
        failed=committed.failed + (status == "failed"),
        dropped=dropped,
    )


_words: dict[str, str] = {}


def use_words(words: Mapping[str, str]) -> None:
    """Set what emotions, and `uncertain`, are called in this process's pictures and terminal lines.

    What is left out, or empty, keeps its name.
    """
    _words.clear()
    _words.update({name: " ".join(word.split()) for name, word in words.items() if word.strip()})


def word_for(name: str) -> str:
    """Return what an emotion, or `uncertain`, is called."""
    return _words.get(name, name)


def short_label(face: FaceRecord) -> str:
    """Return the word for a face's smoothed emotion, or for `uncertain`."""
    return word_for("uncertain" if face.smoothed.uncertain else face.smoothed.emotion)
