"""Results files: one record a frame (.jsonl) or one row a face (.csv), whole after every write."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import UNSET

from pipeline.emotions import EMOTIONS
from pipeline.errors import UserError
from stages.display.appending import AppendFile
from stages.display.past import COLUMNS, Past, Read, read_back, read_csv, read_jsonl
from stages.display.record import FaceRecord, Record


class _Format(NamedTuple):
    header: bytes
    read: Read
    lines: Callable[[Record, bytes], bytes]


class Results:
    """An open results file."""

    def __init__(self, path: str, on_past: Callable[[Past], None] | None) -> None:
        """Open `path`; its extension tells the format.

        With `on_past` the file is gone on with: what is torn at its end is cut off and every record before
        goes to `on_past`, in order. Without, it is written anew. Raises UserError in one line.
        """
        self._format = _format_of(path)
        length = read_back(Path(path), self._format.read, on_past) if on_past else 0
        self._file = AppendFile(Path(path), length)
        if self._file.empty:
            self._file.write(self._format.header)

    def write(self, record: Record, line: bytes) -> None:
        """Write a record, of which `line` is the JSON. It is written when this returns.

        Raises OutputFailed.
        """
        self._file.write(self._format.lines(record, line))

    def close(self) -> None:
        """Close the file. Raises OutputFailed."""
        self._file.close()


def csv_rows(*rows: list[object]) -> bytes:
    """Return rows as RFC 4180 has them: quoted where needed, lines ended by CR LF, UTF-8."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _csv_lines(record: Record, line: bytes) -> bytes:
    frame: list[object] = [
        record.source,
        record.frame,
        record.time_s,
        record.status,
        "" if record.reason is UNSET else record.reason,
        record.latency_ms,
        "" if record.file is UNSET else record.file,
        len(record.faces),
    ]
    empty: list[object] = [""] * (len(COLUMNS) - len(frame))
    return csv_rows(*[[*frame, *_face_columns(face)] for face in record.faces] or [[*frame, *empty]])


def _face_columns(face: FaceRecord) -> list[object]:
    probabilities = [face.probabilities[emotion] for emotion in EMOTIONS]
    return [face.track, *face.box, face.emotion, face.confidence, *probabilities]


_FORMATS: Final = {
    ".jsonl": _Format(b"", read_jsonl, lambda record, line: line + b"\n"),
    ".csv": _Format(csv_rows(list(COLUMNS)), read_csv, _csv_lines),
}


def _format_of(path: str) -> _Format:
    """Return the format that the file's extension asks for. Raises UserError for any other."""
    extension = Path(path).suffix.lower()
    if extension not in _FORMATS:
        found = f"found {extension}" if extension else "found none"
        raise UserError(f"results {path}: the extension must be .jsonl or .csv, {found}")
    return _FORMATS[extension]
