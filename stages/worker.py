"""The loop of a worker: take work, do the step, give the result and with it the credit."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.codec import pack, unpack
from pipeline.wire.messages import PROTOCOL, Accept, Array, Buffer, End, Hello, Result, StepFailed, Work
from pipeline.wire.session import Session

POLL_MS = 200

log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]
"""By name; the first axis of each is the items of a frame."""


class StepError(Exception):
    """This piece of work can't be done, the next may be. Its text is the frame's `reason`."""


def serve_frames(
    assignment: Assignment,
    stop: StopFlag,
    *,
    fingerprint: str,
    credits: int,
    step: Callable[[Work, Buffer, Arrays], Arrays],
) -> int:
    """Serve as `serve`. `step` gets the work, the frame as capture has sent it, and what it may keep to."""

    def frame_step(work: Work, buffers: Sequence[Buffer]) -> tuple[int, Arrays]:
        arrays = step(work, buffers[0], unpack(work.arrays, buffers[1:]))
        return len(next(iter(arrays.values()))), arrays

    return serve(assignment, stop, fingerprint, credits, frame_step)


def serve_items(
    assignment: Assignment,
    stop: StopFlag,
    *,
    fingerprint: str,
    credits: int,
    step: Callable[[NDArray[Any]], Arrays],
) -> int:
    """Serve as `serve`. `step` gets a batch, (items, …), and gives arrays with as many rows."""

    def item_step(work: Work, buffers: Sequence[Buffer]) -> tuple[int, Arrays]:
        (batch,) = unpack(work.arrays, buffers).values()
        return work.items, step(batch)

    return serve(assignment, stop, fingerprint, credits, item_step)


def serve(
    assignment: Assignment,
    stop: StopFlag,
    fingerprint: str,
    credits: int,
    step: Callable[[Work, Sequence[Buffer]], tuple[int, Arrays]],
) -> int:
    """Work until the run ends or SIGTERM comes; return the exit status. The model is loaded and warm.

    fingerprint: names the model; the workers of a role must agree on it. credits: pieces of work that may be
    on their way. `step` raises StepError for a piece that can't be done.
    """
    stop.listen()
    who = assignment.role, assignment.name, assignment.instance, os.getpid(), PROTOCOL
    hello = Hello(*who, credits=credits, fingerprint=fingerprint)
    with Session(assignment, lambda: hello) as session:
        while not stop:
            match session.receive(POLL_MS):
                case (Accept(broker), _):
                    log.debug("works for broker %s", broker)
                case (End(), _):
                    return 0
                case (Work() as work, buffers):
                    session.send(*_answer(work, buffers, step))
    return 0


def _answer(
    work: Work, buffers: Sequence[Buffer], step: Callable[[Work, Sequence[Buffer]], tuple[int, Arrays]]
) -> tuple[Result | StepFailed, list[Buffer]]:
    started_ns = clock_ns()
    try:
        items, arrays = step(work, buffers)
    except StepError as error:
        return StepFailed(work.broker, work.work, str(error)), []
    step_ns = clock_ns() - started_ns
    described: list[Array]
    described, packed = pack(arrays)
    return Result(work.broker, work.work, items, described, step_ns), packed


def clock_ns() -> int:
    """Now, in the nanoseconds that all times of a run are in."""
    return time.monotonic_ns()
