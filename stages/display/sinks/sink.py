"""What an output of the display stage is."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.wire.messages import Delivery
from stages.display.record import Record
from stages.display.resume import ResultsMark

Image = NDArray[np.uint8]


class Outcome:
    """A frame as its sinks get it. Pictures are drawn once, when the first sink asks for them."""

    def __init__(self, delivery: Delivery, record: Record, line: bytes, image: Image | None) -> None:
        """`line` is the record as JSON, without the line's end; `image` is uint8 BGR (height, width, 3)."""
        self.delivery = delivery
        self.record = record
        self.line = line
        self.image = image

    @cached_property
    def drawn(self) -> Image | None:
        """The picture with its faces drawn, as it was filmed; None for a frame without pixels."""
        if self.image is None:
            return None
        from stages.display.annotate import draw_faces  # here and below: OpenCV, which results don't need

        drawn = self.image.copy()
        draw_faces(drawn, self.record.faces)
        return drawn

    @cached_property
    def mirrored(self) -> Image | None:
        """The same as in a mirror, with readable words."""
        if self.image is None:
            return None
        from stages.display.annotate import draw_faces, mirrored

        drawn = np.ascontiguousarray(self.image[:, ::-1])
        draw_faces(drawn, [mirrored(face, drawn.shape[1]) for face in self.record.faces])
        return drawn


class Sink:
    """An output. A new one overrides what it needs, and is opened in `open_sinks`.

    All methods but `poll` may raise OutputFailed, which ends the run with status 1.
    """

    wants_pixels = False  # whether frames are sent to display for it
    watched = False  # whether people look at it, so that files play at their own rate

    @property
    def mark(self) -> ResultsMark | None:
        """Where a process that replaces this one reads results back from; None for other sinks."""
        return None

    def begin(self) -> None:
        """The first outcome of the run is about to be written: what an earlier run left can go."""

    def write(self, outcome: Outcome) -> None:
        """Take one outcome; those of a source come in order. It is written when this returns."""

    def check(self) -> None:
        """Raise OutputFailed if what is written is no longer where it was."""

    def end_source(self, source: str) -> None:
        """No more frames of this source will come."""

    def poll(self) -> str | None:
        """Let a window act; return why the user wants the run to end, if so."""
        return None

    def complete(self) -> None:
        """The run is over, and all outcomes are written."""

    def close(self) -> None:
        """Complete and close the output; may be called again."""
