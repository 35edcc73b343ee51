"""Frames as they travel: raw pixels, a JPEG of them, or the name of shared memory that holds them."""

import io
import math
import mmap
import os
import re
import warnings
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.wire.messages import Buffer, Encoding

PLACES: Final = 32
"""Frames in a shared file: twice a file source's default window."""

MOST_MAPPED: Final = 128
"""Files that a reader keeps mapped: two for each possible source of a run."""

_NAME: Final = re.compile(r"(?P<file>[A-Za-z0-9-]{1,60})\.(?P<place>[0-9]{1,2})")


@dataclass
class _File:
    """A shared file of PLACES frames, of which the first `reserved` have memory."""

    path: Path
    mapped: mmap.mmap
    free: list[int] = field(default_factory=list)
    reserved: int = 0

    @property
    def frame_bytes(self) -> int:
        return len(self.mapped) // PLACES

    def take(self) -> int | None:
        """Return a free place, None if there is none, or no memory for one."""
        if self.free:
            return self.free.pop()
        if self.reserved == PLACES or not self._reserve():
            return None
        self.reserved += 1
        return self.reserved - 1

    def _reserve(self) -> bool:
        """Allocate the next place: running out of memory at the first write would kill the process."""
        try:
            with self.path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), self.reserved * self.frame_bytes, self.frame_bytes)
        except OSError:
            return False
        return True


class FrameWriter:
    """Capture's side of shared memory.

    Frames are written into files of the run's directory in /dev/shm, and a place is reused once the record of
    its frame is written. A file holds many frames, since each mapping takes a descriptor."""

    def __init__(self, directory: Path, owner: str) -> None:
        """owner: the process's name, which begins the names of its files."""
        self._directory = directory
        self._prefix = f"{owner}-{os.getpid()}"
        self._of_predecessor = list(directory.glob(f"{owner}-*-*"))
        self._first: int | None = None  # frames before this one are the predecessor's
        self._files: list[_File] = []
        self._made = 0
        self._unwritten: deque[tuple[int, _File, int]] = deque()  # sequence, file and place

    def begin(self, first: int) -> None:
        """Set the first frame of this process, which the first broker says; later calls change nothing."""
        if self._first is None:
            self._first = first

    def write(self, sequence: int, image: NDArray[np.uint8]) -> str | None:
        """Copy a frame (height, width, 3) into a file; return its name, None if there is no room."""
        found = self._place(image.nbytes)
        if found is None:
            return None
        file, place = found
        at = place * file.frame_bytes
        np.frombuffer(file.mapped, np.uint8, image.nbytes, at).reshape(image.shape)[:] = image
        self._unwritten.append((sequence, file, place))
        return f"{file.path.name}.{place}"

    def release(self, before: int) -> None:
        """Let the memory of all frames before a number be reused: their records are written.

        The files of the process that this one replaces are removed once all its frames are.
        """
        if self._first is not None and before >= self._first:
            while self._of_predecessor:
                self._of_predecessor.pop().unlink(missing_ok=True)
        while self._unwritten and self._unwritten[0][0] < before:
            _, file, place = self._unwritten.popleft()
            file.free.append(place)

    def _place(self, frame_bytes: int) -> tuple[_File, int] | None:
        """Return a file and a free place in it for a frame of a size."""
        for file in self._files:
            if file.frame_bytes >= frame_bytes and (place := file.take()) is not None:
                return file, place
        made = self._make(frame_bytes)
        if made is None or (place := made.take()) is None:
            return None
        return made, place

    def _make(self, frame_bytes: int) -> _File | None:
        """Return a new file for frames of a size, None if it can't be made."""
        self._remove_unused()
        path = self._directory / f"{self._prefix}-{self._made}"
        try:
            with open(path, "x+b", opener=_private) as file:
                file.truncate(PLACES * frame_bytes)
                mapped = mmap.mmap(file.fileno(), PLACES * frame_bytes)
        except OSError:
            return None
        self._made += 1
        self._files.append(_File(path, mapped))
        return self._files[-1]

    def _remove_unused(self) -> None:
        """Remove files without frames: they are too small by now, or had no memory left."""
        for file in [file for file in self._files if len(file.free) == file.reserved]:
            file.path.unlink(missing_ok=True)
            self._files.remove(file)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class FrameReader:
    """Detect's and display's side of shared memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mapped: OrderedDict[str, mmap.mmap] = OrderedDict()

    def read(self, name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return a frame by its name, (height, width, 3), read-only and not copied.

        Raises OSError if there is no such frame, or it is smaller.
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


_END = b"\xff\xd9"  # the marker that closes a JPEG: a decoder makes up what is missing before it


class BadFrame(Exception):  # noqa: N818  (what arrived, not a fault of the program)
    """What arrived is not the announced frame; one line that says why."""


def to_jpeg(image: NDArray[np.uint8], quality: int) -> Buffer:
    """Return a picture (height, width, 3), BGR, as a JPEG of a quality from 1 to 100."""
    import cv2

    written, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    assert written
    return data.data


class ImageReader:
    """Turns the buffers of frames into pictures."""

    def __init__(self, max_bytes: int, frames: str = "") -> None:
        """max_bytes: of a JPEG's pixels, as of a raw frame's.

        frames: the directory of shared frames; "" where there is none.
        """
        self._max_bytes = max_bytes
        self._shared = FrameReader(Path(frames)) if frames else None

    def image(self, buffer: Buffer, encoding: Encoding, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return the picture in a buffer, `shape` (height, width, 3), BGR; it may be read-only.

        Raises BadFrame for what is not there, for a JPEG that claims another size, before it is decoded, and
        for one that is broken.
        """
        match encoding:
            case "raw":
                return np.frombuffer(buffer, np.uint8).reshape(shape)
            case "shared":
                return self._from_shared(bytes(buffer), shape)
            case "jpeg":
                return self._from_jpeg(buffer, shape)

    def _from_shared(self, name: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        if self._shared is None:
            raise BadFrame("shared frame: this process shares no memory with its capture")
        try:
            return self._shared.read(name.decode("ascii", "replace"), shape)
        except OSError as error:
            raise BadFrame(f"shared frame: {error.strerror or error}") from error

    def _from_jpeg(self, buffer: Buffer, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        import cv2

        if math.prod(shape) > self._max_bytes:
            raise BadFrame(f"JPEG of {shape[1]}×{shape[0]} px: larger than broker.max_message_bytes")
        found = claimed_size(buffer)
        if found != (shape[1], shape[0]):
            raise BadFrame(f"JPEG: {shape[1]}×{shape[0]} px announced, {found[0]}×{found[1]} found")
        if bytes(buffer[-2:]) != _END:
            raise BadFrame("JPEG: cut off")
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(buffer, np.uint8), flags)
        except cv2.error as error:
            raise BadFrame(f"JPEG: {error.err or error}") from error
        if image is None or image.shape != shape:
            raise BadFrame("JPEG: broken")
        return np.asarray(image, np.uint8)


def claimed_size(buffer: Buffer) -> tuple[int, int]:
    """Width and height that a JPEG's header claims, px; its pixels are left alone.

    Raises BadFrame for what is no JPEG.
    """
    from PIL import Image  # here, as OpenCV below: a run on one machine sends no JPEG

    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of bombs, whose size is checked; of odd metadata
            Image.open(io.BytesIO(buffer), formats=("JPEG",)) as header,
        ):
            return header.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFrame(f"JPEG: no header that can be read: {type(error).__name__}") from error
