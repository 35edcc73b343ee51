"""Results: one record a frame (.jsonl, or lines on standard output) or one row a face (.csv)."""

import csv
import io
import os
import select
import sys
from pathlib import Path
from typing import Final

from msgspec import UNSET

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.wire.assignment import STDOUT_VARIABLE
from stages.display.checkpoint import ResultsMark
from stages.display.output_file import OutputFailed, OutputFile
from stages.display.record import FaceRecord, Record
from stages.display.sinks.sink import Opening, Outcome, Sink

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


class Results(Sink):
    """An open results file."""

    def __init__(self, run: Opening) -> None:
        """Open the file; its extension is the format. Raises UserError.

        If the checkpoint has a mark, the file is continued there: what follows is part of a record, which
        comes again. Else the file stays as it is until `begin`."""
        path = Path(run.settings.results)
        self._is_csv = path.suffix.lower() == ".csv"
        self._next = b""  # the lines of the record that is written next
        self._checkpoint = run.checkpoint
        mark = run.checkpoint.state.results
        self._file = OutputFile("results", path, run.patience, append=True, known=mark is not None)
        if mark is not None:
            try:
                self._continue(path, mark)
            except UserError:
                self._file.close()
                raise

    def _continue(self, path: Path, mark: ResultsMark) -> None:
        if self._file.identity != mark.identity:
            raise OutputFailed("results", path, "another file has taken its place")
        if path.stat().st_size < mark.offset:
            raise OutputFailed("results", path, "another program has cut it")
        self._file.begin(mark.offset)

    def begin(self) -> None:
        """Empty the file of what an earlier run left in it. Raises OutputFailed."""
        self._file.begin()
        if self._is_csv:
            self._file.write(csv_rows(list(COLUMNS)))
        self._checkpoint.begin(results=ResultsMark(self._file.end, self._file.identity))

    def announce(self, outcome: Outcome) -> None:
        self._next = _csv_lines(outcome.record) if self._is_csv else outcome.line + b"\n"
        self._checkpoint.results = ResultsMark(self._file.end + len(self._next), self._file.identity)

    def write(self, outcome: Outcome) -> None:
        self._file.write(self._next)

    def check(self) -> None:
        self._file.check()

    def close(self) -> None:
        self._file.close()


def csv_rows(*rows: list[object]) -> bytes:
    """Return rows as in RFC 4180: quoted where needed, lines ended by CR LF, in UTF-8."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _csv_lines(record: Record) -> bytes:
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
