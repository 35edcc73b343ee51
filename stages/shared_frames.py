"""Frames in memory that the processes of a run share, so that only a name travels in the message.

Capture writes each frame into a file of the run's directory in /dev/shm, and uses the file again once the
frame's outcome is written. Each process that reads the file maps it once.
"""

import mmap
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_MAPPED: Final = 256
"""Files that a reader keeps mapped: the windows of several sources."""

_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class FrameWriter:
    """Capture's side."""

    def __init__(self, directory: Path, owner: str) -> None:
        """`owner` is in the names of the files: they are this process's alone."""
        self._directory = directory
        self._prefix = f"{owner}-{os.getpid()}"
        self._of_predecessor = list(directory.glob(f"{owner}-*-*"))
        self._free: list[str] = []
        self._mapped: dict[str, mmap.mmap] = {}
        self._made = 0

    def write(self, image: NDArray[np.uint8]) -> str | None:
        """Copy a frame (height, width, 3) into a file; return its name, None where there is no room."""
        name = self._free.pop() if self._free else ""
        if name and len(self._mapped[name]) < image.nbytes:
            self._remove(name)
            name = ""
        name = name or self._make(image.nbytes)
        if not name:
            return None
        np.frombuffer(self._mapped[name], np.uint8, image.nbytes).reshape(image.shape)[:] = image
        return name

    def free(self, name: str) -> None:
        """Nobody needs this frame any more."""
        self._free.append(name)

    def free_predecessor(self) -> None:
        """Nobody needs the frames of the process that this one replaces any more."""
        while self._of_predecessor:
            self._of_predecessor.pop().unlink(missing_ok=True)

    def _make(self, size: int) -> str:
        """Return the name of a new file of `size` bytes; "" where there is no room for it."""
        name = f"{self._prefix}-{self._made}"
        path = self._directory / name
        try:
            with open(path, "x+b", opener=_private) as file:
                # A page that can't be had later would end the process.
                os.posix_fallocate(file.fileno(), 0, size)
                self._mapped[name] = mmap.mmap(file.fileno(), size)
        except OSError:
            path.unlink(missing_ok=True)
            return ""
        self._made += 1
        return name

    def _remove(self, name: str) -> None:
        self._mapped.pop(name)  # unmapped with the last array over it
        (self._directory / name).unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class FrameReader:
    """The side of detect and display."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mapped: OrderedDict[str, mmap.mmap] = OrderedDict()

    def read(self, name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return the frame in a file, (height, width, 3), which is read-only and not a copy.

        Raises OSError if there is none of that name, or it is smaller.
        """
        mapped = self._mapped.get(name) or self._map(name)
        self._mapped.move_to_end(name)
        size = int(np.prod(shape))
        if len(mapped) < size:
            raise OSError(f"frame {name}: {size} bytes expected, {len(mapped)} found")
        return np.frombuffer(mapped, np.uint8, size).reshape(shape)

    def _map(self, name: str) -> mmap.mmap:
        if not _NAME.fullmatch(name):
            raise OSError(f"frame {name[:64]!r}: not the name of a frame")
        handle = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            mapped = self._mapped[name] = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        if len(self._mapped) > MOST_MAPPED:
            self._mapped.popitem(last=False)
        return mapped
