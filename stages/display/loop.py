"""The display process: outcomes in, in order; window, recording and results out."""

import os
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.assignment import Assignment, DisplayOptions
from pipeline.child import StopFlag
from pipeline.emotions import EMOTIONS
from pipeline.messages import (
    PROTOCOL,
    Buffer,
    Delivery,
    End,
    EndOfSource,
    Hello,
    StopRequest,
    Welcome,
    Written,
)
from pipeline.session import Session
from pipeline.worker import clock_ns
from stages.display.display import Display

CREDITS = 8
POLL_MS = 200
WINDOW_POLL_MS = 10  # a window wants its events looked after


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Open the outputs and serve; they are closed complete, however the loop ends."""
    options = msgspec.json.decode(assignment.options, type=DisplayOptions)
    display = Display(options.settings, options.sources, resume=assignment.incarnation > 0)
    watched = options.settings.mode == "window"
    stop.listen()

    def hello() -> Hello:
        return Hello(
            "display",
            assignment.name,
            assignment.slot,
            os.getpid(),
            PROTOCOL,
            CREDITS,
            wants_pixels=display.wants_pixels,
            watched=watched,
            progress=display.progress,
        )

    try:
        with Session(assignment, hello) as session:
            _serve(session, display, stop, WINDOW_POLL_MS if watched else POLL_MS)
            display.close()  # before the goodbye: who hears it may rely on complete files
    finally:
        display.close()
    return 0


def _serve(session: Session, display: Display, stop: StopFlag, poll_ms: int) -> None:
    wish: str | None = None
    while not stop:
        received = session.receive(poll_ms)
        match received:
            case (Welcome(progress=progress), _):
                display.adopt(progress)
                if wish is not None:  # said to a broker that may be gone
                    session.send(StopRequest(wish))
            case (Delivery() as delivery, buffers):
                _deliver(session, display, delivery, buffers)
            case (EndOfSource(source), _):
                display.end_source(source)
            case (End(), _):
                return
        if wish is None:
            wish = display.poll()
            if wish is not None:
                session.send(StopRequest(wish))


def _deliver(session: Session, display: Display, delivery: Delivery, buffers: Sequence[Buffer]) -> None:
    started_ns = clock_ns()
    probabilities, image = unpack(delivery, buffers)
    record = display.deliver(delivery, probabilities, image, started_ns)
    now_ns = clock_ns()
    seen = [max(0, now_ns - delivery.captured_ns)] if record and delivery.status == "ok" else []
    written = Written(delivery.source, display.progress[delivery.source], seen, now_ns - started_ns)
    session.send(written, [record] if record else [])


def unpack(
    delivery: Delivery, buffers: Sequence[Buffer]
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Return the probabilities (faces, 7) and, if it came along, the frame (height, width, 3), BGR."""
    probabilities = np.zeros((0, len(EMOTIONS)), np.float32)
    if delivery.faces:
        probabilities = np.frombuffer(buffers[0], np.float32).reshape(-1, len(EMOTIONS))
    if delivery.shape is None:
        return probabilities, None
    return probabilities, np.frombuffer(buffers[-1], np.uint8).reshape(delivery.shape)
