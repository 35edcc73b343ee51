"""The private directory of a run, where its sockets are; gone at the end, and if not, with the next run."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pipeline.endpoints import IPC_PATH_MAX, has_ipc, is_ours
from pipeline.errors import UserError

if sys.platform != "win32":
    import fcntl

_PREFIX: Final = "emotions-"
_LONGEST_NAME: Final = len(f"/{_PREFIX}12345678/results")


@contextmanager
def run_directory() -> Iterator[Path]:
    """Give a directory that only its owner can enter; remove it at the end.

    Those of runs that were killed are removed as well: the lock on a directory ends with its run.
    """
    try:
        place = _parent_directory()
        _sweep(place)
        made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))  # mkdtemp makes it 0700
    except OSError as error:
        raise UserError(f"no directory for the run's sockets: {error}; set TMPDIR to another disk") from error
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
