"""The private directories of a run, for its sockets and its shared frames.

They are removed at the end; those of a run that was killed are removed by the next one.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pipeline.common.errors import UserError
from pipeline.wire.addresses import IPC_PATH_MAX, has_ipc, is_ours

if sys.platform != "win32":
    import fcntl

SHARED_MEMORY: Final = Path("/dev/shm")

_PREFIX: Final = "emotions-"
_LONGEST_NAME: Final = len(f"/{_PREFIX}12345678/results")


@contextmanager
def run_directory() -> Iterator[Path]:
    """Give the directory of the run's sockets. Raises UserError if none can be made."""
    try:
        with _directory_in(_parent_directory()) as directory:
            yield directory
    except _NoDirectory as error:
        raise UserError(
            f"no directory for the run's sockets: {error.__cause__}; set TMPDIR to another disk"
        ) from error


@contextmanager
def frames_directory() -> Iterator[Path | None]:
    """Give the directory in which the processes of a run share frames; None on systems without /dev/shm."""
    if not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        yield None
        return
    try:
        with _directory_in(SHARED_MEMORY) as directory:
            yield directory
    except _NoDirectory:  # frames travel in messages then
        yield None


class _NoDirectory(Exception):  # noqa: N818 - its cause is the error
    """The directory can't be made."""


@contextmanager
def _directory_in(place: Path) -> Iterator[Path]:
    """Give a directory that only its owner can enter; remove it at the end.

    Those of runs that were killed are removed as well: the lock on a directory ends with its run.
    """
    try:
        _sweep(place)
        made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))  # mkdtemp makes it 0700
    except OSError as error:
        raise _NoDirectory from error
    lock = _lock(made)
    directory = made.rename(place / made.name[1:])  # so that no other run finds it without its lock
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _sweep(place: Path) -> None:
    """Remove what killed runs of this user have left behind."""
    for directory in place.glob(f"{_PREFIX}????????"):
        with suppress(OSError):  # another run sweeps as well
            lock = _lock(directory) if is_ours(directory) else None
            if lock is not None:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)


def _lock(directory: Path) -> int | None:
    """Lock a directory; return what holds the lock, or None if another process does (or this is Windows)."""
    if sys.platform == "win32":
        return None
    handle = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _parent_directory() -> Path:
    """Return the first of the usual places that is ours to write in and short enough for a socket's path."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [Path(tempfile.gettempdir()), Path("/tmp")]
    if runtime and is_ours(Path(runtime)):
        places.insert(0, Path(runtime))
    for place in places:
        short = len(os.fsencode(place)) + _LONGEST_NAME <= IPC_PATH_MAX or not has_ipc()
        if short and os.access(place, os.W_OK | os.X_OK):
            return place
    raise UserError(
        f"no directory for the run's sockets: {places[0]} is too long or can't be written; set TMPDIR"
    )
