"""A folder of annotated pictures, each named after its file, or its number."""

import contextlib
import re
from pathlib import Path, PurePosixPath
from typing import Final

import cv2

from pipeline.common.errors import UserError
from stages.display.output_file import OutputFailed, OutputFile, not_writable
from stages.display.sinks.sink import Opening, Outcome, Sink

ENCODERS: Final = {".jfif": ".jpg", ".jpe": ".jpg", ".dib": ".bmp"} | {
    suffix: suffix for suffix in (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".avif")
}
"""Suffixes that are kept, and OpenCV's for the format; pictures with another suffix become PNG."""


class Pictures(Sink):
    """A picture for each frame; each of several sources has a folder of its own in the folder."""

    wants_pixels = True

    def __init__(self, run: Opening) -> None:
        """Make the folder, in one that exists. Raises UserError if it can't be made or written into."""
        self._folder, self._patience = Path(run.settings.record), run.patience
        self._written = 0
        self._numbers = {name: number for number, name in enumerate(run.sources, start=1)}
        self._several = len(run.sources) != 1
        self._made = not self._folder.exists()
        try:
            self._folder.mkdir(exist_ok=True)
            OutputFile("pictures", self._folder / ".writable", run.patience).close()
        except OSError as error:
            raise not_writable("pictures", self._folder, error) from error

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
        """Remove the folder if it was made here and is empty."""
        if self._made and not self._written:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _path(self, source: str, name: str, frame: int) -> tuple[Path, str]:
        """Return the path of a picture, always in the folder, and the suffix of its format for OpenCV."""
        folder = self._folder
        if self._several:
            number = self._numbers.setdefault(source, len(self._numbers) + 1)
            folder /= f"{number}-{re.sub(r'[^A-Za-z0-9._-]+', '_', source)[-60:]}"
        # The name came over the network: it must not lead out of the folder.
        inner = PurePosixPath(name.replace("\\", "/"))
        if not name or inner.is_absolute() or ".." in inner.parts or ":" in name:
            inner = PurePosixPath(f"{frame:06d}.jpg")
        encoder = ENCODERS.get(inner.suffix.lower())
        if encoder is None:
            return folder / f"{inner}.png", ".png"
        return folder / inner, encoder
