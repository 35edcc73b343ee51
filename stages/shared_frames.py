"""Frames in memory that the processes of a run share, so that only a name travels in the message.

Capture writes frames into files of the run's directory in /dev/shm, several to a file since each mapped file
holds a descriptor, and uses a frame's place again once its outcome is written. A reader maps each file once.
"""

import mmap
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

PLACES: Final = 4
"""Frames in a file: as many as a live source has under way."""

MOST_MAPPED: Final = 128
"""Files that a reader keeps mapped: the windows of two dozen sources."""

_NAME: Final = re.compile(r"(?P<file>[A-Za-z0-9-]{1,60})\.(?P<place>[0-3])")


@dataclass
class _File:
    """A file of PLACES frames."""

    path: Path
    mapped: mmap.mmap
    free: list[int]

    @property
    def frame_bytes(self) -> int:
        return len(self.mapped) // PLACES


class FrameWriter:
    """Capture's side."""

    def __init__(self, directory: Path, owner: str) -> None:
        """`owner` is in the names of the files: they are this process's alone."""
        self._directory = directory
        self._prefix = f"{owner}-{os.getpid()}"
        self._of_predecessor = list(directory.glob(f"{owner}-*-*"))
        self._files: dict[str, _File] = {}
        self._made = 0

    def write(self, image: NDArray[np.uint8]) -> str | None:
        """Copy a frame (height, width, 3) into a file; return its name, None where there is no room."""
        fits = (f for f in self._files.values() if f.free and f.frame_bytes >= image.nbytes)
        file = next(fits, None) or self._make(image.nbytes)
        if file is None:
            return None
        place = file.free.pop()
        at = place * file.frame_bytes
        np.frombuffer(file.mapped, np.uint8, image.nbytes, at).reshape(image.shape)[:] = image
        return f"{file.path.name}.{place}"

    def free(self, name: str) -> None:
        """Nobody needs this frame any more."""
        file, _, place = name.rpartition(".")
        self._files[file].free.append(int(place))

    def free_predecessor(self) -> None:
        """Nobody needs the frames of the process that this one replaces any more."""
        while self._of_predecessor:
            self._of_predecessor.pop().unlink(missing_ok=True)

    def _make(self, frame_bytes: int) -> _File | None:
        """Return a new file for frames of a size; None where there is no room for it."""
        self._remove_smaller(frame_bytes)
        path = self._directory / f"{self._prefix}-{self._made}"
        try:
            with open(path, "x+b", opener=_private) as file:
                # A page that can't be had later would end the process.
                os.posix_fallocate(file.fileno(), 0, PLACES * frame_bytes)
                mapped = mmap.mmap(file.fileno(), PLACES * frame_bytes)
        except OSError:
            path.unlink(missing_ok=True)
            return None
        self._made += 1
        made = self._files[path.name] = _File(path, mapped, list(range(PLACES)))
        return made

    def _remove_smaller(self, frame_bytes: int) -> None:
        """Remove files that are too small for what comes now, and that nobody needs any more."""
        for name, file in list(self._files.items()):
            if file.frame_bytes < frame_bytes and len(file.free) == PLACES:
                file.path.unlink(missing_ok=True)
                del self._files[name]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class FrameReader:
    """The side of detect and display."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mapped: OrderedDict[str, mmap.mmap] = OrderedDict()

    def read(self, name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return the frame of a name, (height, width, 3), which is read-only and not a copy.

        Raises OSError if there is none of that name, or it is smaller.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise OSError(f"{name[:64]!r} is not the name of a frame")
        mapped = self._mapped.get(match["file"]) or self._map(match["file"])
        self._mapped.move_to_end(match["file"])
        size, room = int(np.prod(shape)), len(mapped) // PLACES
        if room < size:
            raise OSError(f"{name}: {size} bytes expected, {room} found")
        return np.frombuffer(mapped, np.uint8, size, int(match["place"]) * room).reshape(shape)

    def _map(self, file: str) -> mmap.mmap:
        handle = os.open(self._directory / file, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            mapped = self._mapped[file] = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        if len(self._mapped) > MOST_MAPPED:
            self._mapped.popitem(last=False)
        return mapped
