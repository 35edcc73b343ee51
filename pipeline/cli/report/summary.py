"""The figures of a results file: for each source and track, when it was in view and with which emotions."""

import re
from array import array
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from stages.display.record import Box, FaceRecord, Record

UNCERTAIN: Final = "uncertain"
SHOWN: Final = (*EMOTIONS, UNCERTAIN)
"""What a face shows in a frame: an emotion, or none with enough confidence."""

GAP_S: Final = 1.0
"""A longer gap in a track counts as out of view."""

Floats = NDArray[np.float64]

_IN_ORDER: Final = itemgetter(*EMOTIONS)


class Span(msgspec.Struct, frozen=True):
    """A time without a gap; `end_s` is the end of its last frame."""

    start_s: float
    end_s: float


class TrackSummary(msgspec.Struct, frozen=True):
    """One track."""

    track: int
    frames: int
    in_view: list[Span]
    seen_s: float
    emotion: str  # shown most often
    shares: dict[str, float]  # of its frames, by what they show, `uncertain` included
    mean_confidence: float


class SourceSummary(msgspec.Struct, frozen=True):
    """One source."""

    source: str
    captured: int
    ok: int
    dropped: dict[str, int]  # by reason
    failed: dict[str, int]
    start_s: float
    end_s: float
    pictures: bool  # of a folder: each is one second
    faces: int  # of all frames together
    frames_without_face: int
    shares: dict[str, float]  # of all its faces
    latency_ms: dict[str, float]  # p50 and p95
    tracks: list[TrackSummary]  # by their first frame


class Summary(msgspec.Struct, frozen=True):
    """A whole results file."""

    results: str
    uncertain_below: float | None  # None: as marked in the records
    sources: list[SourceSummary]


class Sighting(NamedTuple):
    """A frame in which a face is large and its emotion certain."""

    score: float
    frame: int
    box: Box


class TrackSeries:
    """The values of a track over time."""

    def __init__(self) -> None:
        self._times, self._confidences = array("d"), array("d")
        self._probabilities = array("d")
        self._shown = array("b")
        self.best: dict[int, Sighting] = {}  # by what was shown

    def add(self, record: Record, face: FaceRecord, uncertain_below: float | None) -> None:
        """Add a face of this track."""
        values = face.smoothed
        uncertain = values.uncertain if uncertain_below is None else values.confidence < uncertain_below
        shown = SHOWN.index(UNCERTAIN if uncertain or values.emotion not in EMOTIONS else values.emotion)
        self._times.append(record.time_s)
        self._confidences.append(values.confidence)
        self._probabilities.extend(_IN_ORDER(values.probabilities))
        self._shown.append(shown)
        score = values.confidence * max(face.box[2], face.box[3])
        if shown not in self.best or score > self.best[shown].score:
            self.best[shown] = Sighting(score, record.frame, face.box)

    @property
    def times(self) -> Floats:
        """Seconds, (frames,)."""
        return np.asarray(self._times)

    @property
    def confidences(self) -> Floats:
        return np.asarray(self._confidences)

    @property
    def probabilities(self) -> Floats:
        """(frames, 7) in the order of EMOTIONS."""
        return np.asarray(self._probabilities).reshape(-1, len(EMOTIONS))

    @property
    def shown(self) -> NDArray[np.int8]:
        """Places in SHOWN, (frames,)."""
        return np.asarray(self._shown)


class SourceSeries:
    """The values of a source over time."""

    def __init__(self) -> None:
        self.tracks: dict[int, TrackSeries] = {}
        self.lost: dict[tuple[str, str], array[float]] = {}  # times of frames, by status and reason
        self._times, self._latencies = array("d"), array("d")
        self._status: Counter[str] = Counter()
        self._without_face = 0
        self._pictures = False

    def add(self, record: Record, uncertain_below: float | None) -> None:
        """Add a record of this source."""
        self._status[record.status] += 1
        self._times.append(record.time_s)
        self._pictures |= bool(record.file)
        if record.status != "ok":
            self.lost.setdefault((record.status, _reason(record)), array("d")).append(record.time_s)
            return
        self._latencies.append(record.latency_ms)
        self._without_face += not record.faces
        for face in record.faces:
            self.tracks.setdefault(face.track, TrackSeries()).add(record, face, uncertain_below)

    @property
    def step_s(self) -> float:
        """Seconds from one frame to the next: the median."""
        steps = np.diff(np.asarray(self._times))
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else 1.0

    def summary(self, name: str) -> SourceSummary:
        """Return the figures of this source."""
        times, step_s = np.asarray(self._times), self.step_s
        shown = [series.shown for series in self.tracks.values()]
        return SourceSummary(
            source=name,
            captured=self._status.total(),
            ok=self._status["ok"],
            dropped=self._reasons("dropped"),
            failed=self._reasons("failed"),
            start_s=round(float(times.min()), 3),
            end_s=round(float(times.max()) + step_s, 3),
            pictures=self._pictures,
            faces=sum(map(len, shown)),
            frames_without_face=self._without_face,
            shares=_shares(np.concatenate(shown)) if shown else {},
            latency_ms=_percentiles(np.asarray(self._latencies)),
            tracks=[_track_summary(track, self.tracks[track], step_s) for track in sorted(self.tracks)],
        )

    def _reasons(self, status: str) -> dict[str, int]:
        return {reason: len(times) for (each, reason), times in sorted(self.lost.items()) if each == status}


class Results(NamedTuple):
    """The contents of a results file, and warnings about it."""

    summary: Summary
    series: dict[str, SourceSeries]
    warnings: list[str]


def read_results(path: Path, uncertain_below: float | None = None) -> Results:
    """Read a results file. Faces with a confidence below `uncertain_below`, 0 to 1, are uncertain.

    None: as marked in the records. A face's values are its `smoothed` ones. Raises UserError for a file that
    can't be read, has other contents, or no record.
    """
    if path.suffix.lower() != ".jsonl":
        raise UserError(f"{path}: expected a results file that ends in .jsonl, as --results FILE.jsonl makes")
    decoder = msgspec.json.Decoder(Record)
    series: dict[str, SourceSeries] = {}
    warnings: list[str] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = decoder.decode(line)
                    series.setdefault(record.source, SourceSeries()).add(record, uncertain_below)
                except (
                    msgspec.MsgspecError,
                    UnicodeDecodeError,
                    KeyError,
                ) as error:  # KeyError: no such emotion
                    if line.endswith(b"\n") or number == 1:
                        raise UserError(f"{path}: line {number} is not a record of a run: {error}") from error
                    warnings.append(f"{path}: its last line is cut off and left out: the run was killed")
                    break
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if not series:
        raise UserError(f"{path}: holds no record; a run that had frames is expected")
    sources = [each.summary(name) for name, each in series.items()]
    return Results(Summary(str(path), uncertain_below, sources), series, warnings)


def spans(times: Floats, step_s: float) -> list[Span]:
    """Return when a track was in view; a gap is longer than GAP_S and than three frames."""
    breaks = np.flatnonzero(np.diff(times) > max(GAP_S, 3 * step_s)) + 1
    parts = np.split(times, breaks)
    return [Span(round(float(part[0]), 3), round(float(part[-1]) + step_s, 3)) for part in parts]


def _track_summary(track: int, series: TrackSeries, step_s: float) -> TrackSummary:
    in_view, shares = spans(series.times, step_s), _shares(series.shown)
    return TrackSummary(
        track=track,
        frames=len(series.times),
        in_view=in_view,
        seen_s=round(sum(span.end_s - span.start_s for span in in_view), 3),
        emotion=max(shares, key=lambda name: shares[name]),
        shares=shares,
        mean_confidence=round(float(series.confidences.mean()), 4),
    )


def _shares(shown: NDArray[np.int8]) -> dict[str, float]:
    counts = np.bincount(shown, minlength=len(SHOWN)) / len(shown)
    return {name: round(float(share), 4) for name, share in zip(SHOWN, counts, strict=True)}


def _percentiles(values: Floats) -> dict[str, float]:
    if not len(values):
        return {}
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def _reason(record: Record) -> str:
    """Return the reason with N for each number, so that those with other numbers count as one."""
    return re.sub(r"\d+", "N", str(record.reason or "no reason is given"))


NBSP: Final = "\N{NO-BREAK SPACE}"
MOST_SPANS: Final = 4
NAMED_FROM: Final = 0.05
"""The least share of a track's frames for which an emotion is named."""


def clock(seconds: float, pictures: bool = False) -> str:
    """Return a time as 0:07.5 or 1:02:09; for a folder, as a number of pictures."""
    if pictures:
        return f"{seconds:.0f}"
    minutes, rest = divmod(round(max(0.0, seconds), 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:04.1f}".removesuffix(".0")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def percent(share: float) -> str:
    """Return a share in per cent; a small one is < 1 %, not 0 %."""
    return f"<{NBSP}1{NBSP}%" if 0 < share < 0.005 else f"{100 * share:.0f}{NBSP}%"


def number(value: int) -> str:
    """Return a number with separated thousands."""
    return f"{value:,}"


def in_view(track: TrackSummary, pictures: bool = False) -> str:
    """Return when a track was in view: 0:00–0:12.4, 0:20–0:21."""
    parts = []
    for span in track.in_view[:MOST_SPANS]:
        if not pictures:
            parts.append(f"{clock(span.start_s)}–{clock(span.end_s)}")
            continue
        first, last = round(span.start_s) + 1, round(span.end_s)
        parts.append(f"picture {first}" if first == last else f"pictures {first}–{last}")
    more = len(track.in_view) - MOST_SPANS
    return ", ".join(parts) + (f" and {more} times more" if more > 0 else "")


def shares_text(track: TrackSummary, without: str = "") -> str:
    """Return what a track shows, the most frequent first: happy 72 %, neutral 25 %."""
    ordered = sorted(track.shares.items(), key=lambda pair: -pair[1])
    named = [pair for pair in ordered if pair[1] >= NAMED_FROM and pair[0] != without]
    return ", ".join(f"{name} {percent(share)}" for name, share in named)
