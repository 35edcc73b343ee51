"""What a display process keeps for the one that replaces it: a checkpoint, and the results read back."""

import csv
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.wire.messages import Committed, Status
from stages.display.output_file import OutputFailed, why
from stages.display.record import Box
from stages.display.tracks import SmoothedTrack, TrackerState

log = logging.getLogger(__name__)


class ResultsMark(msgspec.Struct, frozen=True):
    """The end of the results when the checkpoint was made: `sources` covers all records before it."""

    offset: int  # bytes
    identity: tuple[int, int]  # of the file: device and number


class SourceState(msgspec.Struct, frozen=True):
    """What the next records of a source depend on."""

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
    """The file with the newest state."""

    def __init__(self, path: Path | None) -> None:
        """Read what the process before this one left at `path`. None: nothing is read or kept.

        Raises UserError if it can't be written.
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

    def begin(self, **outputs: Any) -> None:
        """Note that outputs belong to this run from now on: fields of State. Raises OutputFailed."""
        try:
            self._save(msgspec.structs.replace(self.state, begun=True, **outputs))
        except OSError as error:
            raise OutputFailed("checkpoint", self._path or "", error) from error

    def keep(self, results: ResultsMark | None, sources: dict[str, SourceState]) -> None:
        """Save a newer state. If that fails, the older one remains: a replacement then only takes longer."""
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
"""The header of a .csv results file. There is a row for each face; a frame without faces has one row, whose
columns of a face are empty. `faces` is the number of faces in the frame, so that missing rows of the last
frame are noticed."""


class PastFace(msgspec.Struct, frozen=True):
    """What a track needs of a written face."""

    track: int
    box: Box
    probabilities: dict[str, float]


class Past(msgspec.Struct, frozen=True):
    """What a new process needs of a written record."""

    source: str
    frame: int
    time_s: float
    status: Status
    reason: str = ""
    file: str = ""
    faces: list[PastFace] = []


Read = Callable[[BinaryIO, int], Iterator[tuple[Past | None, int]]]
"""Yields each whole record of a file from an offset on (None for the header), with the offset of its end,
bytes."""


def read_back(path: Path, read: Read, offset: int, on_past: Callable[[Past], None]) -> int:
    """Hand every whole record of `path` from `offset`, bytes, on to `on_past`.

    Returns the file's length without a torn end, bytes. Raises UserError if anything before it is no record.
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
        raise UserError(f"results {path}: cannot be read to continue it: {error.strerror}") from error
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
    """The whole lines of a file as text, and their bytes so far. A torn last line is left out."""

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
    """Return the next whole row, None at the end, which may be within a quoted value."""
    try:
        return next(iter(rows), None)
    except csv.Error as error:
        if lines.ended:
            return None
        raise ValueError(str(error)) from error


def _next_frame(rows: Iterable[list[str]], lines: _Lines) -> Past | None:
    """Return the next frame from all its rows, None at the end, which may be within the frame."""
    frame: dict[str, Any] = {}
    faces: list[dict[str, Any]] = []
    while not frame or len(faces) < int(frame["faces"]):
        row = _next_row(rows, lines)
        if row is None:
            return None
        values = dict(zip(COLUMNS, row, strict=True))
        frame = frame or values
        if int(frame["faces"]):
            box, probabilities = [values[name] for name in "xywh"], {name: values[name] for name in EMOTIONS}
            faces.append({"track": values["track"], "box": box, "probabilities": probabilities})
    return msgspec.convert({**frame, "faces": faces}, Past, strict=False)
