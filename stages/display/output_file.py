"""A file that a run writes: results or a recording.

It keeps what an earlier run has left in it until `begin`, so that a run which is refused at its start costs
nothing. A full disk is waited out for a while, and a file that is no longer at its path is noticed.
"""

import contextlib
import os
import stat
from pathlib import Path

from stages.display.failure import OutputFailed, not_writable
from stages.display.patience import FULL, Patience

_BINARY = getattr(os, "O_BINARY", 0)  # Windows


class OutputFile:
    """What `write` has taken has left this process: killing it loses nothing. PyAV writes to it as well."""

    def __init__(
        self, what: str, path: Path, patience: Patience, *, append: bool = False, known: bool = False
    ) -> None:
        """Open `path` as it is; it is made if absent, unless it is `known` to be there.

        With `append` every write goes to the end, wherever that is. Raises UserError if it can't be opened.
        """
        self._what, self._path, self._patience = what, path, patience
        self._made = not (path.exists() or path.is_symlink())
        self._append = append
        self._begun = False
        self._end = 0  # bytes up to the end of what was written
        self.closed = False
        flags = (os.O_APPEND if append else 0) | (0 if known else os.O_CREAT)
        try:
            self._fd = os.open(path, os.O_WRONLY | _BINARY | flags, 0o666)
        except OSError as error:
            if known and isinstance(error, FileNotFoundError):
                raise OutputFailed(what, path, "it has been removed") from error
            raise not_writable(what, path, error) from error

    @property
    def identity(self) -> tuple[int, int]:
        """The device and number of the file, whatever its path is by now."""
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino

    @property
    def end(self) -> int:
        return self._end

    def begin(self, length: int = 0) -> None:
        """Cut the file to `length` bytes; from now on it is this run's. Raises OutputFailed."""
        try:
            if os.fstat(self._fd).st_size != length:  # a device has none, and can't be cut
                os.ftruncate(self._fd, length)
            self.seek(length)
        except OSError as error:
            raise OutputFailed(self._what, self._path, error) from error
        self._begun, self._end = True, length

    def write(self, data: bytes) -> int:
        """Write all of `data`, or nothing of it where the system allows. Raises OutputFailed.

        As long as `Patience` allows, it waits for room on a full disk.
        """
        waited = False
        while True:
            try:
                self._write(data)
            except OSError as error:
                said = f"{self._what} {self._path}"
                if error.errno not in FULL or not self._patience.wait(said, error):
                    raise OutputFailed(self._what, self._path, error) from error
                waited = True
            else:
                if waited:
                    self._patience.rewarded(f"{self._what} {self._path}")
                return len(data)

    def _write(self, data: bytes) -> None:
        begin = self._end if self._append else self.tell()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                self.seek(begin)
                os.ftruncate(self._fd, min(self._end, os.fstat(self._fd).st_size))
            raise
        self._end = max(self._end, begin + len(data))

    def check(self) -> None:
        """Raise OutputFailed if the file has been removed, replaced or cut by somebody else."""
        if not self._begun or self.closed:
            return
        held = os.fstat(self._fd)
        try:
            there = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise OutputFailed(self._what, self._path, "it has been removed") from None
        except OSError as error:
            raise OutputFailed(self._what, self._path, error) from error
        if not os.path.samestat(held, there):
            raise OutputFailed(self._what, self._path, "another file has taken its place")
        if stat.S_ISREG(held.st_mode) and held.st_size < self._end:
            raise OutputFailed(self._what, self._path, "another program has cut it")

    def close(self) -> None:
        """Close the file; one that was made here and never begun is removed. Raises OutputFailed."""
        if self.closed:
            return
        self.closed = True
        try:
            os.close(self._fd)
            if self._made and not self._begun:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputFailed(self._what, self._path, error) from error

    # For PyAV, whose muxers go back to complete what they have written.

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._fd, offset, whence)
