"""What is read back of a results file when the process that wrote it was replaced."""

import csv
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.wire.messages import Committed, Status
from stages.display.output_file import OutputFailed, why
from stages.display.record import Box
from stages.display.tracks import SmoothedTrack, TrackerState

log = logging.getLogger(__name__)


class ResultsMark(msgspec.Struct, frozen=True):
    """Where in the results the checkpoint was made: all before is accounted for in `sources`."""

    offset: int  # bytes
    identity: tuple[int, int]  # of the file: device and number


class SourceState(msgspec.Struct, frozen=True):
    """Of a source, what its next records depend on."""

    committed: Committed = Committed()
    tracker: TrackerState = TrackerState()
    smoothed: dict[int, SmoothedTrack] = {}


class State(msgspec.Struct, frozen=True):
    """A checkpoint. Until it says `begun`, this run has not touched the outputs."""

    begun: bool = False
    results: ResultsMark | None = None
    recordings: dict[str, str] = {}  # source -> its first file, once this run has begun it
    sources: dict[str, SourceState] = {}


class Checkpoint:
    """The file that holds the newest state."""

    def __init__(self, path: Path | None) -> None:
        """Read what a predecessor left at `path`; with None nothing is read or kept.

        Raises UserError if nothing can be written there.
        """
        self._path = path
        self._warned = False
        self.state = State()
        try:
            if path is not None and path.exists():
                self.state = msgspec.json.decode(path.read_bytes(), type=State)
            self._save(self.state)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {why(error)}; set TMPDIR to another disk") from error

    def begin(self, results: ResultsMark | None = None, recordings: dict[str, str] | None = None) -> None:
        """Note that an output is this run's from now on, empty as it is. Raises OutputFailed."""
        state = msgspec.structs.replace(self.state, begun=True)
        if results is not None:
            state = msgspec.structs.replace(state, results=results)
        if recordings is not None:
            state = msgspec.structs.replace(state, recordings=recordings)
        try:
            self._save(state)
        except OSError as error:
            raise OutputFailed("checkpoint", self._path or "", error) from error

    def keep(self, results: ResultsMark | None, sources: dict[str, SourceState]) -> None:
        """Keep a newer state. If that fails the older one serves: a replacement only takes longer."""
        try:
            self._save(msgspec.structs.replace(self.state, results=results, sources=sources))
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("%s: can't be written: %s; a restart may take longer", self._path, why(error))

    def _save(self, state: State) -> None:
        if self._path is not None:
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(state))
            fresh.replace(self._path)
        self.state = state


COLUMNS: Final = (
    "source",
    "frame",
    "time_s",
    "status",
    "reason",
    "latency_ms",
    "file",
    "faces",
    "track",
    "x",
    "y",
    "w",
    "h",
    "emotion",
    "confidence",
    *EMOTIONS,
    "smoothed_emotion",
    "smoothed_confidence",
    "frame_width",
    "frame_height",
)
"""The header of a .csv results file. There is a row for each face, and one whose columns of a face are
empty for a frame without. `faces` is the number of faces in the frame: it tells how many rows belong to it,
so that a last frame which is not whole is known."""


class PastFace(msgspec.Struct, frozen=True):
    """Of a written face, what its track needs."""

    track: int
    box: Box
    probabilities: dict[str, float]


class Past(msgspec.Struct, frozen=True):
    """Of a written record, what a new process needs to know."""

    source: str
    frame: int
    time_s: float
    status: Status
    reason: str = ""
    file: str = ""
    faces: list[PastFace] = []


Read = Callable[[BinaryIO, int], Iterator[tuple[Past | None, int]]]
"""Yields each whole record of a file from an offset on, at which one begins (None for the header at 0), with
the offset at which it ends, bytes."""


def read_back(path: Path, read: Read, offset: int, on_past: Callable[[Past], None]) -> int:
    """Hand every whole record of `path` from `offset` on to `on_past`; return the length without a torn end.

    Both in bytes. Raises UserError if something else than the end is not a record.
    """
    whole = offset
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for past, end in read(file, offset):
                if past is not None:
                    on_past(past)
                whole = end
    except OSError as error:
        raise UserError(f"results {path}: cannot be read to go on with it: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"results {path}: not this run's results after byte {whole}: {error}") from error
    return whole


def read_jsonl(file: BinaryIO, offset: int) -> Iterator[tuple[Past, int]]:
    """Read a .jsonl file; its last line is torn if no line end follows."""
    decoder = msgspec.json.Decoder(Past)
    for line in file:
        if not line.endswith(b"\n"):
            return
        offset += len(line)
        yield decoder.decode(line), offset


def read_csv(file: BinaryIO, offset: int) -> Iterator[tuple[Past | None, int]]:
    """Read a .csv file; its last frame is torn if it has fewer rows than faces, or no line end follows."""
    lines = _Lines(file, offset)
    rows = csv.reader(lines, strict=True)
    if offset == 0:
        header = _next_row(rows, lines)
        if header is None:
            return
        if tuple(header) != COLUMNS:
            raise ValueError(f"the header is {','.join(header)[:200]}")
        yield None, lines.offset
    while (past := _next_frame(rows, lines)) is not None:
        yield past, lines.offset


class _Lines:
    """The whole lines of a file as text, counting the bytes handed out. A torn last line is left out."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self.offset = offset
        self.ended = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\r\n") and not line.endswith(b"\n"):
            self.ended = True
            raise StopIteration
        self.offset += len(line)
        return line.decode()


def _next_row(rows: Iterable[list[str]], lines: _Lines) -> list[str] | None:
    """Return the next whole row, None at the end or where the end tore a quoted value."""
    try:
        return next(iter(rows), None)
    except csv.Error as error:
        if lines.ended:
            return None
        raise ValueError(str(error)) from error


def _next_frame(rows: Iterable[list[str]], lines: _Lines) -> Past | None:
    """Return the next frame from all its rows, None at the end or where the end tore it."""
    first: dict[str, str] | None = None
    faces: list[PastFace] = []
    while first is None or len(faces) < int(first["faces"]):
        row = _next_row(rows, lines)
        if row is None:
            return None
        values = dict(zip(COLUMNS, row, strict=True))
        first = first or values
        if int(first["faces"]):
            faces.append(_face(values))
    return msgspec.convert(
        {
            "source": first["source"],
            "frame": int(first["frame"]),
            "time_s": float(first["time_s"]),
            "status": first["status"],
            "reason": first["reason"],
            "file": first["file"],
            "faces": faces,
        },
        Past,
    )


def _face(row: dict[str, str]) -> PastFace:
    box = (float(row["x"]), float(row["y"]), float(row["w"]), float(row["h"]))
    probabilities = {emotion: float(row[emotion]) for emotion in EMOTIONS}
    return PastFace(track=int(row["track"]), box=box, probabilities=probabilities)
