"""The base class of outputs, and the opening of those that the settings choose."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from pipeline.wire.messages import Delivery
from stages.display.checkpoint import Checkpoint
from stages.display.output_file import Patience
from stages.display.record import Record
from stages.display.spec import DisplaySettings, sinks_of

Image = NDArray[np.uint8]


class Outcome:
    """A frame as sinks get it. Faces are drawn once, when the first sink asks for them."""

    def __init__(self, delivery: Delivery, record: Record, line: bytes, image: Image | None) -> None:
        """`line` is the record as JSON, without the line's end; `image` is uint8 BGR (height, width, 3)."""
        self.delivery = delivery
        self.record = record
        self.line = line
        self.image = image

    @cached_property
    def drawn(self) -> Image | None:
        """The picture with its faces drawn, not mirrored; None for a frame without pixels."""
        if self.image is None:
            return None
        from stages.display.drawing import draw_faces  # here and below: OpenCV, which results don't need

        drawn = self.image.copy()
        draw_faces(drawn, self.record.faces)
        return drawn

    @cached_property
    def mirrored(self) -> Image | None:
        """The mirrored picture with its faces drawn and readable words."""
        if self.image is None:
            return None
        from stages.display.drawing import draw_faces, mirrored

        drawn = np.ascontiguousarray(self.image[:, ::-1])
        draw_faces(drawn, [mirrored(face, drawn.shape[1]) for face in self.record.faces])
        return drawn


@dataclass(frozen=True)
class Opening:
    """What a sink is opened with."""

    settings: DisplaySettings
    sources: Sequence[str]  # names; empty where all are captured elsewhere
    checkpoint: Checkpoint
    patience: Patience
    page: str = ""  # address of the web page's process


class Sink:
    """An output. A new one overrides what it needs, and has a line in a table of spec.py.

    All methods but `poll` may raise OutputFailed, which ends the run with status 1.
    """

    wants_pixels = False  # whether it needs the frames' pixels
    watched = False  # whether people watch it, so that files play at their own rate

    def __init__(self, run: Opening) -> None:
        """Open the output; nothing is written before `begin`. Raises UserError."""

    def begin(self) -> None:
        """The first outcome of the run comes next: discard what an earlier run left."""

    def announce(self, outcome: Outcome) -> None:
        """An outcome will be written: note for the checkpoint where the output ends with it."""

    def write(self, outcome: Outcome) -> None:
        """Write an outcome, and return once it is written; those of a source come in order."""

    def check(self) -> None:
        """Raise OutputFailed if what is written was removed or replaced."""

    def end_source(self, source: str) -> None:
        """No more frames of this source will come."""

    def poll(self) -> str | None:
        """Handle the user's input; return why the user wants the run to end, if so."""
        return None

    def complete(self) -> None:
        """The run is over, and all outcomes are written."""

    def close(self) -> None:
        """Complete and close the output; it may be called twice."""


class NullSink(Sink):
    """Draws each frame and shows nothing: for the benchmark."""

    wants_pixels = True

    def write(self, outcome: Outcome) -> None:
        _ = outcome.drawn


def open_sinks(run: Opening) -> list[Sink]:
    """Open the sinks that the settings choose, in the order in which they are written.

    Raises UserError for what can't be opened; nothing stays open then.
    """
    sinks: list[Sink] = []
    with contextlib.ExitStack() as opened:
        for module, name in sinks_of(run.settings):
            kind: type[Sink] = getattr(import_module(module), name)
            sinks.append(kind(run))
            opened.callback(sinks[-1].close)
        opened.pop_all()
    return sinks
