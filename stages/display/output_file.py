"""Files that outputs write: writes wait for room on a full disk, and a removed file is an error."""

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.common.errors import LateError, UserError

PATIENCE_S: Final = 10.0
"""Time to make room on a full disk. The run stands still meanwhile, so it is no longer."""

RETRY_S: Final = 0.2
FULL: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

log = logging.getLogger(__name__)


class Patience:
    """How long writes wait for room; shared, so that after a timeout the other outputs don't wait again."""

    def __init__(self, limit_s: float = PATIENCE_S) -> None:
        self._limit_s = limit_s
        self._until_s: float | None = None
        self.waited_ns = 0  # in all
        self.pause: Callable[[float], bool] = _sleep
        """Wait for so many seconds; return False if the process is to end. The display loop sets its own,
        which also sends a heartbeat."""

    def until_done(self, what: str, path: str | os.PathLike[str], write: Callable[[], object]) -> None:
        """Call `write`, again and again while there is no room. Raises OutputFailed."""
        waited = False
        while True:
            try:
                write()
            except OSError as error:
                if error.errno not in FULL or not self._wait(f"{what} {os.fspath(path)}", error):
                    raise OutputFailed(what, path, error) from error
                waited = True
            else:
                break
        if waited:
            self._until_s = None
            log.warning("%s %s: is written again", what, os.fspath(path))

    def _wait(self, output: str, error: OSError) -> bool:
        """Wait a moment for room; return False once the time limit is over."""
        now_s = time.monotonic()
        if self._until_s is None:
            self._until_s = now_s + self._limit_s
            log.warning("%s: %s; waiting up to %.0f s for room", output, error.strerror, self._limit_s)
        go_on = now_s < self._until_s and self.pause(RETRY_S)
        self.waited_ns += round((time.monotonic() - now_s) * 1e9)
        return go_on


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


class OutputFailed(LateError):  # noqa: N818 - said of what happened, as the log line does
    """An output can no longer be written: the run ends with status 1, and with this line."""

    def __init__(self, what: str, path: str | os.PathLike[str], reason: str | Exception) -> None:
        super().__init__(f"{what} {os.fspath(path)}: cannot be written any more: {why(reason)}")


def not_writable(what: str, path: str | os.PathLike[str], error: OSError) -> UserError:
    """Return the error for an output that cannot be opened."""
    return UserError(f"{what} {os.fspath(path)}: cannot be written: {why(error)}; name a file that can")


def why(reason: str | Exception) -> str:
    """Return a reason as text; of an OSError, without its number and path."""
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)


_BINARY = getattr(os, "O_BINARY", 0)  # Windows


class OutputFile:
    """An unbuffered file: what is written survives a kill of this process. PyAV can write to it too."""

    def __init__(
        self, what: str, path: Path, patience: Patience, *, append: bool = False, known: bool = False
    ) -> None:
        """Open `path` without changing it; create it unless it is `known` to exist.

        append: every write goes to the end of the file. Raises UserError if it can't be opened.
        """
        self._what, self._path, self._patience = what, path, patience
        self._made = not (path.exists() or path.is_symlink())
        self._append = append
        self._begun = False
        self.end = 0  # bytes up to the end of what was written
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
        """Device and inode of the open file, which stay when its path changes."""
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino

    def begin(self, length: int = 0) -> None:
        """Truncate the file to `length` bytes; from now on it belongs to this run. Raises OutputFailed."""
        try:
            if os.fstat(self._fd).st_size != length:  # devices have size 0 and can't be truncated
                os.ftruncate(self._fd, length)
            self.seek(length)
        except OSError as error:
            raise OutputFailed(self._what, self._path, error) from error
        self._begun, self.end = True, length

    def write(self, data: bytes) -> int:
        """Write all of `data`, waiting for room on a full disk as long as `Patience` allows.

        Raises OutputFailed; what was written of `data` is then removed where possible.
        """
        self._patience.until_done(self._what, self._path, lambda: self._write(data))
        return len(data)

    def _write(self, data: bytes) -> None:
        begin = self.end if self._append else self.tell()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                self.seek(begin)
                os.ftruncate(self._fd, min(self.end, os.fstat(self._fd).st_size))
            raise
        self.end = max(self.end, begin + len(data))

    def check(self) -> None:
        """Raise OutputFailed if the file was removed, replaced or truncated by another program."""
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
        if stat.S_ISREG(held.st_mode) and held.st_size < self.end:
            raise OutputFailed(self._what, self._path, "another program has cut it")

    def close(self) -> None:
        """Close the file, and remove it if it was created here and never begun. Raises OutputFailed."""
        if self.closed:
            return
        self.closed = True
        try:
            os.close(self._fd)
            if self._made and not self._begun:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputFailed(self._what, self._path, error) from error

    # For PyAV: muxers seek back to complete what they have written.

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._fd, offset, whence)
