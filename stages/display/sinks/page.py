"""The link to the web page's process: each record, and a JPEG of a frame when the page asks for one.

A thread encodes the pictures, once for all viewers and only while someone watches.
"""

import threading
import time
from typing import Final

import cv2

from pipeline.wire.page_link import DisplayEnd
from stages.display.sinks.sink import Image, Opening, Outcome, Sink
from stages.image_codec import to_jpeg

JPEG_QUALITY: Final = 80

PICTURES_A_S: Final = 50.0
"""The most of a source: a file that is read faster costs no more than that."""

LARGEST_SIDE: Final = 1280
"""Longer side of the JPEG, px: larger frames are reduced, since pages show them smaller still."""


class Page(Sink):
    """Passes records and pictures on, and never waits for the page."""

    wants_pixels = True
    watched = True

    def __init__(self, run: Opening) -> None:
        self._link = DisplayEnd(run.page)
        self._asked: set[str] = set()  # sources
        self._next_s: dict[str, float] = {}  # by source, when its next frame may be passed on
        self._encoder = _Encoder(run.page)

    def write(self, outcome: Outcome) -> None:
        """Pass the record on, and the frame if the page has asked for the next one of its source."""
        self._link.send(outcome.line)
        self._asked.update(self._link.requests())
        source, now_s = outcome.record.source, time.monotonic()
        if outcome.image is not None and source in self._asked and now_s >= self._next_s.get(source, 0.0):
            self._asked.discard(source)
            self._next_s[source] = now_s + 1 / PICTURES_A_S
            # A copy, since the frame's memory is reused once its record is written.
            self._encoder.put(source, outcome.image.copy(), outcome.line)

    def close(self) -> None:
        if self._encoder.is_alive():
            self._encoder.finish()
            self._link.close()


class _Encoder(threading.Thread):
    """Encodes the newest frame of each source and sends it."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._changed = threading.Condition()
        self._frames: dict[str, tuple[Image, bytes]] = {}
        self._over = False
        self.start()

    def put(self, source: str, image: Image, record: bytes) -> None:
        """Encode this frame next, in place of one of the same source that still waits."""
        with self._changed:
            self._frames[source] = image, record
            self._changed.notify()

    def finish(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self.join()

    def run(self) -> None:
        link = DisplayEnd(self._address)
        while (frame := self._take()) is not None:
            image, record = frame
            link.send(record, to_jpeg(_fit(image), JPEG_QUALITY))
        link.close()

    def _take(self) -> tuple[Image, bytes] | None:
        """Wait for a frame; return None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._over)
            return None if self._over else self._frames.pop(next(iter(self._frames)))


def _fit(image: Image) -> Image:
    """Return a frame (height, width, 3) of at most LARGEST_SIDE, in its proportions."""
    height, width = image.shape[:2]
    scale = LARGEST_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smaller: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype("uint8", copy=False)
    return smaller
