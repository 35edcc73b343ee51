"""The display process: outcomes in, in order; window or page, recording and results out."""

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.codec import unpack
from pipeline.wire.messages import (
    Accept,
    Buffer,
    Commit,
    Delivery,
    End,
    EndOfSource,
    Hello,
    StopRequest,
)
from pipeline.wire.session import Session
from stages.display.display import Display
from stages.display.output_file import OutputFailed
from stages.display.record import use_words
from stages.display.spec import DisplayOptions
from stages.faces import unpack_faces
from stages.image_codec import BadFrame, ImageReader
from stages.worker import clock_ns, who

CREDITS = 8
POLL_MS = 200
WINDOW_POLL_MS = 10  # between two looks at the window's events
CHECK_S = 1.0  # between two checks that the output files are still there

log = logging.getLogger(__name__)


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Open the outputs and serve; they are completed and closed, however the loop ends."""
    options = msgspec.json.decode(assignment.options, type=DisplayOptions)
    display = Display(options.settings, options.sources, Path(options.checkpoint), options.page)
    use_words(msgspec.structs.asdict(options.words))
    stop.listen()

    def hello() -> Hello:
        return Hello(
            *who(assignment),
            CREDITS,
            wants_pixels=display.wants_pixels,
            watched=display.watched,
            committed=display.committed,
        )

    failed: OutputFailed | None = None
    with contextlib.closing(display), Session(assignment, hello) as session:
        display.patience.pause = lambda seconds: _pause(session, stop, seconds)
        poll_ms = WINDOW_POLL_MS if options.settings.mode == "window" else POLL_MS
        reader = ImageReader(assignment.max_message_bytes, assignment.frames)
        try:
            _serve(session, display, stop, poll_ms, reader)
            display.close()  # before the goodbye: then the broker knows that the files are complete
        except OutputFailed as error:
            failed = error
            with contextlib.suppress(OutputFailed):
                display.close()
    if failed is not None:
        raise failed  # after the goodbye, so that the end of this process is not taken for a crash
    return 0


def _pause(session: Session, stop: StopFlag, seconds: float) -> bool:
    """Wait for room on a disk while sending heartbeats; return False if the process is to end."""
    session.beat()
    time.sleep(seconds)
    return not stop


def _serve(session: Session, display: Display, stop: StopFlag, poll_ms: int, reader: ImageReader) -> None:
    wish: str | None = None
    next_check_s = time.monotonic() + CHECK_S
    written: defaultdict[str, Unsent] = defaultdict(Unsent)
    while not stop:
        if time.monotonic() >= next_check_s:
            next_check_s = time.monotonic() + CHECK_S
            display.check()
        received = session.receive(0 if written else poll_ms)
        if received is None or not isinstance(received[0], Delivery):
            _acknowledge(session, display, written)
        match received:
            case (Accept(committed=committed), _):
                display.adopt(committed)
                if wish is not None:  # said to a broker that may be gone
                    session.send(StopRequest(wish))
            case (Delivery() as delivery, buffers):
                _deliver(session, display, delivery, buffers, reader, written)
            case (EndOfSource(source), _):
                display.end_source(source)
            case (End(), _):
                display.complete()
                if display.tally:
                    log.info("%s", display.tally)
                return
        if wish is None:
            wish = display.poll()
            if wish is not None:
                session.send(StopRequest(wish))


@dataclass
class Unsent:
    """What is written of one source and not yet acknowledged."""

    records: list[Buffer] = field(default_factory=list)
    latency_ns: list[int] = field(default_factory=list)  # of frames that are ok
    step_ns: int = 0  # for all of them


def _acknowledge(session: Session, display: Display, written: dict[str, Unsent]) -> None:
    """Acknowledge a whole burst of deliveries in one message for each source."""
    for source, unsent in written.items():
        committed = display.committed[source]
        in_view, more = display.tally.in_view(source)
        commit = Commit(source, committed, unsent.latency_ns, unsent.step_ns, in_view, more)
        session.send(commit, unsent.records)
    written.clear()


def _deliver(
    session: Session,
    display: Display,
    delivery: Delivery,
    buffers: Sequence[Buffer],
    reader: ImageReader,
    written: defaultdict[str, Unsent],
) -> None:
    started_ns = clock_ns() + session.offset_ns  # on the broker's clock, as `captured_ns` is
    waited_ns = display.patience.waited_ns
    arrays = unpack(delivery.arrays, buffers[: len(delivery.arrays)])
    image = _image(delivery, buffers, reader)
    record = display.deliver(delivery, unpack_faces(delivery.items, arrays), image, started_ns)
    now_ns = clock_ns() + session.offset_ns
    unsent = written[delivery.source]
    # Waiting for room on a disk is no slow step.
    unsent.step_ns += now_ns - started_ns - (display.patience.waited_ns - waited_ns)
    if record:  # else it was written before
        unsent.records.append(record)
        if delivery.status == "ok":
            unsent.latency_ns.append(max(0, now_ns - delivery.captured_ns))


def _image(delivery: Delivery, buffers: Sequence[Buffer], reader: ImageReader) -> NDArray[np.uint8] | None:
    """Return the frame (height, width, 3), BGR; None if it did not come along or is broken."""
    if delivery.shape is None:
        return None
    try:
        return reader.image(buffers[-1], delivery.encoding, delivery.shape)
    except BadFrame as error:
        log.warning("%s, frame %d is not shown: %s", delivery.source, delivery.sequence, error)
        return None
