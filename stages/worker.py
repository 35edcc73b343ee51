"""A worker's loop: take work, run the step, send the result, which returns the credit."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.codec import pack, unpack
from pipeline.wire.messages import PROTOCOL, Buffer, End, Hello, Result, StepFailed, Work
from pipeline.wire.session import Session

POLL_MS = 200
MAX_REASON = 200  # characters of a frame's reason, which may be a library's text

Arrays = Mapping[str, NDArray[Any]]
"""By name; the first axis of each is the items of a frame."""

Step = Callable[[Work, Sequence[Buffer]], Arrays]
"""Takes work and what came with it; every array that it gives has a row for each item."""


def who(assignment: Assignment) -> tuple[str, str, str, int, int]:
    """Return the first fields of this process's Hello."""
    return assignment.role, assignment.name, assignment.instance, os.getpid(), PROTOCOL


class StepError(Exception):
    """This piece of work can't be done, the next may be. Its text is the frame's `reason`."""


def serve(assignment: Assignment, stop: StopFlag, *, fingerprint: str, credits: int, step: Step) -> int:
    """Work until the run ends or SIGTERM comes; return the exit status. The model is loaded and warm.

    fingerprint: names the model; the workers of a role must agree on it. credits: how many pieces of work may
    be on their way here. `step` raises StepError for a piece that can't be done.
    """
    stop.listen()
    hello = Hello(*who(assignment), credits=credits, fingerprint=fingerprint)
    with Session(assignment, lambda: hello) as session:
        while not stop:
            match session.receive(POLL_MS):
                case (End(), _):
                    return 0
                case (Work() as work, buffers):
                    session.send(*_answer(work, buffers, step))
    return 0


def serve_items(
    assignment: Assignment,
    stop: StopFlag,
    *,
    fingerprint: str,
    credits: int,
    step: Callable[[NDArray[Any]], Arrays],
) -> int:
    """Serve a step that takes a batch, (items, …), and gives arrays with as many rows; see `serve`."""

    def item_step(work: Work, buffers: Sequence[Buffer]) -> Arrays:
        (batch,) = unpack(work.arrays, buffers).values()
        return step(batch)

    return serve(assignment, stop, fingerprint=fingerprint, credits=credits, step=item_step)


def _answer(
    work: Work, buffers: Sequence[Buffer], step: Step
) -> tuple[Result | StepFailed, Sequence[Buffer]]:
    started_ns = clock_ns()
    try:
        arrays = step(work, buffers)
    except StepError as error:
        return StepFailed(work.broker, work.work, str(error)[:MAX_REASON]), ()
    step_ns = clock_ns() - started_ns
    items = len(next(iter(arrays.values())))
    described, packed = pack(arrays)
    return Result(work.broker, work.work, items, described, step_ns), packed


def clock_ns() -> int:
    """Return the monotonic time, ns; all times of a run are on this clock."""
    return time.monotonic_ns()
