"""Results: one record a frame (.jsonl, or lines on standard output) or one row a face (.csv)."""

import csv
import io
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import UNSET

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.wire.assignment import STDOUT_VARIABLE
from stages.display.output_file import OutputFailed, OutputFile
from stages.display.record import FaceRecord, Record
from stages.display.resume import (
    COLUMNS,
    Past,
    Read,
    ResultsMark,
    read_back,
    read_csv,
    read_jsonl,
)
from stages.display.sinks.sink import Opening, Outcome, Sink


class _Format(NamedTuple):
    header: bytes
    read: Read
    lines: Callable[[Record, bytes], bytes]


class Results(Sink):
    """An open results file."""

    def __init__(self, run: Opening) -> None:
        """Open the file; its extension is the format. Raises UserError.

        If the checkpoint has a mark, the file is continued: a torn end is cut off, and the records after the
        mark go to `run.on_past` in order. Else the file stays as it is until `begin`."""
        path = Path(run.settings.results)
        self._format = _FORMATS[path.suffix.lower()]
        self._checkpoint = run.checkpoint
        mark = run.checkpoint.state.results
        self._file = OutputFile("results", path, run.patience, append=True, known=mark is not None)
        if mark is not None:
            try:
                self._continue(path, mark, run.on_past)
            except UserError:
                self._file.close()
                raise

    def _continue(self, path: Path, mark: ResultsMark, on_past: Callable[[Past], None]) -> None:
        if self._file.identity != mark.identity:
            raise OutputFailed("results", path, "another file has taken its place")
        if path.stat().st_size < mark.offset:
            raise OutputFailed("results", path, "another program has cut it")
        self._file.begin(read_back(path, self._format.read, mark.offset, on_past))
        if self._file.end == 0:
            self._file.write(self._format.header)

    def begin(self) -> None:
        """Empty the file of what an earlier run left in it. Raises OutputFailed."""
        self._file.begin()
        mark = self.mark
        self._file.write(self._format.header)
        self._checkpoint.begin(results=mark)

    @property
    def mark(self) -> ResultsMark:
        """The end of what is written."""
        return ResultsMark(self._file.end, self._file.identity)

    def write(self, outcome: Outcome) -> None:
        self._file.write(self._format.lines(outcome.record, outcome.line))

    def check(self) -> None:
        self._file.check()

    def close(self) -> None:
        self._file.close()


def csv_rows(*rows: list[object]) -> bytes:
    """Return rows as in RFC 4180: quoted where needed, lines ended by CR LF, in UTF-8."""
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
    size: list[object] = ["", ""] if record.size is UNSET else [*record.size]
    empty: list[object] = [""] * (len(COLUMNS) - len(frame) - len(size))
    faces = [_face_columns(face) for face in record.faces] or [empty]
    return csv_rows(*[[*frame, *face, *size] for face in faces])


def _face_columns(face: FaceRecord) -> list[object]:
    probabilities = [face.probabilities[emotion] for emotion in EMOTIONS]
    smoothed = [face.smoothed.emotion, face.smoothed.confidence]
    return [face.track, *face.box, face.emotion, face.confidence, *probabilities, *smoothed]


_FORMATS: Final = {
    ".jsonl": _Format(b"", read_jsonl, lambda record, line: line + b"\n"),
    ".csv": _Format(csv_rows(list(COLUMNS)), read_csv, _csv_lines),
}


SAFE_BYTES: Final = 4096 if sys.platform == "linux" else 512
"""A pipe that select() calls writable takes at least this much at once (PIPE_BUF)."""

WAIT_S: Final = 0.1


class Lines(Sink):
    """Records on the command line's standard output, which this process was given besides its own."""

    def __init__(self, run: Opening) -> None:
        """Raise UserError where the system can't hand it over."""
        number = os.environ.get(STDOUT_VARIABLE)
        if number is None:
            raise UserError("results -: not on this system; name a file that ends in .jsonl")
        self._fd = int(number)
        self._patience = run.patience
        self._gone = False  # its reader has closed it

    def write(self, outcome: Outcome) -> None:
        """Write the whole line; while it waits for a slow reader, heartbeats go on."""
        rest = memoryview(outcome.line + b"\n")
        while rest and not self._gone:
            try:
                if select.select([], [self._fd], [], WAIT_S)[1]:
                    rest = rest[os.write(self._fd, rest[:SAFE_BYTES]) :]
                    continue
                self._patience.waited_ns += round(WAIT_S * 1e9)
                if not self._patience.pause(0):
                    return
            except BrokenPipeError:
                self._gone = True
            except OSError as error:
                raise OutputFailed("results", "-", error) from error

    def poll(self) -> str | None:
        """End the run when the reader has closed the pipe, as `| head` does."""
        return "nobody reads the results any more" if self._gone else None
