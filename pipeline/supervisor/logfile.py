"""The log file of a run, which outlives it.

It is opened anew for each line: lines are few, and so the run simply goes on in a new file when another
program (logrotate) moves the old one away, and on the old one when a full disk has room again.
"""

import stat
import time
from pathlib import Path
from typing import Final

LIMIT: Final = 5_000_000
"""Bytes; a longer file becomes FILE.1, that one FILE.2, up to FILE.3."""

KEPT: Final = 3


class LogFile:
    """Lines in, and a note when writing begins to fail or works again. The run goes on meanwhile."""

    def __init__(self, path: str) -> None:
        """Raises OSError if the file can't be written."""
        self._path = Path(path)
        self.lost = 0  # lines that could not be written
        self._failing = False
        self._append(b"")

    def write(self, text: str) -> str:
        """Add a line; return what is to be said of the file, "" most of the time."""
        try:
            self._rotate()
            self._append(text.encode() + b"\n")
        except OSError as error:
            self.lost += 1
            if self._failing:
                return ""
            self._failing = True
            return f"error: log.file {self._path}: cannot be written: {error.strerror}; the run goes on"
        if not self._failing:
            return ""
        self._failing = False
        when = time.strftime("%H:%M:%S")
        return f"{when} run: log.file {self._path} is written again, {self.lost} lines missing"

    def _append(self, line: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            rest = line
            while rest:  # the part that a full disk still took stands alone
                rest = rest[file.write(rest) :]

    def _rotate(self) -> None:
        """Make room for a new file; what is no regular file stays as it is."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return
        if stat.S_ISREG(found.st_mode) and found.st_size >= LIMIT:
            names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, KEPT + 1))]
            for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
                if newer.exists():
                    newer.replace(older)
