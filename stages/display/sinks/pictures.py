"""A folder of annotated pictures: each frame by the name of its file, or by its number."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import cv2

from pipeline.common.errors import UserError
from stages.display.output_file import OutputFailed, OutputFile, Patience, not_writable
from stages.display.sinks.sink import Opening, Outcome, Sink

ENCODERS: Final = {".jfif": ".jpg", ".jpe": ".jpg", ".dib": ".bmp"} | {
    suffix: suffix for suffix in (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".avif")
}
"""Suffixes that are kept, and what OpenCV calls their format; a picture of another one becomes a PNG."""


class Pictures(Sink):
    """See Sink. Of several sources, each has a folder of its own in the folder."""

    wants_pixels = True

    @classmethod
    def open(cls, run: Opening) -> "Pictures":
        return cls(run.settings.record, run.sources, run.patience)

    def __init__(self, folder: str, sources: Sequence[str], patience: Patience) -> None:
        """Make the folder, in one that is there. Raises UserError if it can't be made or written into."""
        self._folder, self._patience = Path(folder), patience
        self._written = 0
        self._numbers = {name: number for number, name in enumerate(sources, start=1)}
        self._several = len(sources) != 1
        self._made = not self._folder.exists()
        try:
            self._folder.mkdir(exist_ok=True)
            OutputFile("pictures", self._folder / ".writable", patience).close()
        except OSError as error:
            raise not_writable("pictures", folder, error) from error

    def write(self, outcome: Outcome) -> None:
        """Write the picture with its faces drawn, over one of the same name. Raises OutputFailed."""
        if outcome.drawn is None:
            return
        path, encoder = self._path(outcome.record.source, outcome.record.file or "", outcome.record.frame)
        _, data = cv2.imencode(encoder, outcome.drawn)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = OutputFile("pictures", path, self._patience)
        except OSError as error:
            raise OutputFailed("pictures", path, error) from error
        except UserError as error:
            raise OutputFailed("pictures", path, str(error.__cause__)) from error
        with contextlib.closing(file):
            file.begin()
            file.write(data.tobytes())
        self._written += 1

    def close(self) -> None:
        """Remove a folder that was made here and got no picture."""
        if self._made and not self._written:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _path(self, source: str, name: str, frame: int) -> tuple[Path, str]:
        """Return where a picture belongs, always in the folder, and the format that OpenCV is to write."""
        folder = self._folder
        if self._several:
            number = self._numbers.setdefault(source, len(self._numbers) + 1)
            folder /= f"{number}-{re.sub(r'[^A-Za-z0-9._-]+', '_', source)[-60:]}"
        # The name has come over the network: it must lead nowhere else.
        inner = PurePosixPath(name.replace("\\", "/"))
        if not name or inner.is_absolute() or ".." in inner.parts or ":" in name:
            inner = PurePosixPath(f"{frame:06d}.jpg")
        encoder = ENCODERS.get(inner.suffix.lower())
        if encoder is None:
            return folder / f"{inner}.png", ".png"
        return folder / inner, encoder
