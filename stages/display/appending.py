"""A file that grows by whole records."""

import contextlib
import os
from pathlib import Path

from stages.display.failure import OutputFailed, not_writable


class AppendFile:
    """A results file: a record that was written has left this process, so that killing it loses nothing.

    Every record is one `write`, unbuffered, at the file's end.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Open `path`, made if absent, and cut it to `length` bytes. Raises UserError if that fails."""
        self._path = path
        self._length = length
        try:
            self._fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666
            )
            try:
                os.ftruncate(self._fd, length)
            except OSError:
                os.close(self._fd)
                raise
        except OSError as error:
            raise not_writable("results", path, error) from error

    @property
    def empty(self) -> bool:
        """Whether nothing has been written."""
        return self._length == 0

    def write(self, data: bytes) -> None:
        """Write one record. Raises OutputFailed, with nothing of it left where the system allows."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._length)
            raise OutputFailed("results", self._path, error) from error
        self._length += len(data)

    def close(self) -> None:
        """Close the file. Raises OutputFailed if the system tells only now that writing failed."""
        try:
            os.close(self._fd)
        except OSError as error:
            raise OutputFailed("results", self._path, error) from error
