"""Frames in memory that the processes of a run share, so that only a name travels in the message.

Capture writes frames into a file of the run's directory in /dev/shm, and uses a place there again once the
outcome of its frame is written. A reader maps the file once. One file holds many frames, since a mapped file
takes a descriptor; its places get memory when they are first used.
"""

import mmap
import os
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

PLACES: Final = 32
"""Frames in a file: twice the window that a file source has by default."""

MOST_MAPPED: Final = 128
"""Files that a reader keeps mapped: two for each of the sources that a run may have."""

_NAME: Final = re.compile(r"(?P<file>[A-Za-z0-9-]{1,60})\.(?P<place>[0-9]{1,2})")


@dataclass
class _File:
    """A file of PLACES frames, of which the first `reserved` have memory."""

    path: Path
    mapped: mmap.mmap
    free: list[int] = field(default_factory=list)
    reserved: int = 0

    @property
    def frame_bytes(self) -> int:
        return len(self.mapped) // PLACES

    def take(self) -> int | None:
        """Return a place that is free; None if there is none, or no memory for one."""
        if self.free:
            return self.free.pop()
        if self.reserved == PLACES or not self._reserve():
            return None
        self.reserved += 1
        return self.reserved - 1

    def _reserve(self) -> bool:
        """Get memory for the next place: a page that can't be had later would end the process."""
        try:
            with self.path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), self.reserved * self.frame_bytes, self.frame_bytes)
        except OSError:
            return False
        return True


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
        for file in [file for file in self._files.values() if file.frame_bytes >= image.nbytes]:
            if (place := file.take()) is not None:
                return self._write(file, place, image)
        made = self._make(image.nbytes)
        place = made.take() if made is not None else None
        return None if made is None or place is None else self._write(made, place, image)

    def _write(self, file: _File, place: int, image: NDArray[np.uint8]) -> str:
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
        """Return a new file for frames of a size; None if it can't be made."""
        self._remove_unused()
        path = self._directory / f"{self._prefix}-{self._made}"
        try:
            with open(path, "x+b", opener=_private) as file:
                file.truncate(PLACES * frame_bytes)
                mapped = mmap.mmap(file.fileno(), PLACES * frame_bytes)
        except OSError:
            return None
        self._made += 1
        made = self._files[path.name] = _File(path, mapped)
        return made

    def _remove_unused(self) -> None:
        """Remove files that nobody needs: they are too small for what comes now, or had no memory to give."""
        for name, file in list(self._files.items()):
            if len(file.free) == file.reserved:
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
        place, size, room = int(match["place"]), int(np.prod(shape)), len(mapped) // PLACES
        if place >= PLACES or size > room:
            raise OSError(f"{name}: {size} bytes expected, {room} found in each of {PLACES} places")
        return np.frombuffer(mapped, np.uint8, size, place * room).reshape(shape)

    def _map(self, file: str) -> mmap.mmap:
        handle = os.open(self._directory / file, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            mapped = self._mapped[file] = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        if len(self._mapped) > MOST_MAPPED:
            self._mapped.popitem(last=False)
        return mapped
