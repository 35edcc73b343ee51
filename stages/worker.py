"""The loop of a worker: take work, do the step, give the answer and with it the credit."""

import logging
import time
from collections.abc import Callable, Sequence

from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.messages import (
    PROTOCOL,
    Buffer,
    Classified,
    ClassifyWork,
    Detected,
    DetectWork,
    End,
    Hello,
    Role,
    StepFailed,
    Welcome,
)
from pipeline.wire.session import Session

POLL_MS = 200

log = logging.getLogger(__name__)

Answer = tuple[Detected | Classified | StepFailed, Sequence[Buffer]]


class StepError(Exception):
    """This piece of work can't be done, the next may be. Its text is the frame's `reason`."""


def serve(
    assignment: Assignment,
    stop: StopFlag,
    *,
    role: Role,
    pid: int,
    fingerprint: str,
    credits: int,
    step: Callable[[DetectWork | ClassifyWork, Sequence[Buffer]], Answer],
) -> int:
    """Work until the run ends or SIGTERM comes; return the exit status. The model is loaded and warm."""
    stop.listen()
    who = role, assignment.name, assignment.slot, pid, PROTOCOL
    hello = Hello(*who, credits=credits, fingerprint=fingerprint)
    kind = DetectWork if role == "detect" else ClassifyWork
    with Session(assignment, lambda: hello) as session:
        while not stop:
            received = session.receive(POLL_MS)
            match received:
                case (Welcome(broker), _):
                    log.debug("works for broker %s", broker)
                case (End(), _):
                    return 0
                case ((DetectWork() | ClassifyWork()) as work, buffers) if isinstance(work, kind):
                    try:
                        answer, answer_buffers = step(work, buffers)
                    except StepError as error:
                        answer, answer_buffers = StepFailed(work.broker, work.work, str(error)), ()
                    session.send(answer, answer_buffers)
    return 0


def clock_ns() -> int:
    """Now, in the nanoseconds that all times of a run are in."""
    return time.monotonic_ns()
