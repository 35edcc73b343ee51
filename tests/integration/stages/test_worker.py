"""What a stage does about a broker that sends it what it can't read, or what is not for it: nothing."""

import random
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zmq

from pipeline.wire.assignment import StopFlag
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import (
    Accept,
    Buffer,
    Committed,
    Delivery,
    End,
    Grant,
    Heartbeat,
    Message,
    RequestHello,
    Result,
    StepFailed,
    Work,
)
from stages.worker import Arrays, serve
from tests.support.broker_world import make_assignment, make_frame, make_hello, make_report, pixels

WAIT_MS = 30_000


class Never(StopFlag):
    def listen(self) -> None:
        """A thread can't."""


class Broker:
    """Sends whatever a test likes, to one worker."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str) -> None:
        self._router = context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.bind(address)
        self._worker = b""

    def next(self, kind: type[Message]) -> Message:
        """Wait for a message of one kind."""
        while self._router.poll(WAIT_MS):
            self._worker, *parts = self._router.recv_multipart()
            message, _ = decode(parts)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__} came")

    def send(self, parts: Sequence[Buffer]) -> None:
        self._router.send_multipart([self._worker, *parts])

    def close(self) -> None:
        self._router.close()


def step(work: Work, buffers: Sequence[Buffer]) -> Arrays:
    return {"boxes": np.zeros((0, 4))}


def test_garbage_from_a_broker_ends_nothing(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/work"
    status: list[int] = []
    assignment = make_assignment("detect", "detect-1", address)
    worker = threading.Thread(
        target=lambda: status.append(serve(assignment, Never(), fingerprint="", credits=2, step=step))
    )
    with zmq.Context() as context:
        broker = Broker(context, address)
        worker.start()
        broker.next(type(make_hello("detect", "d")))
        for parts in hostile():
            broker.send(parts)
        broker.send(encode(Work("b", 9, 0, (2, 4, 3)), [bytes(24)]))
        answer = broker.next(Result)
        assert isinstance(answer, Result) and answer.work == 9
        broker.next(Heartbeat)
        broker.send(encode(End()))
        worker.join(WAIT_MS / 1000)
        broker.close()
    assert status == [0]


def hostile() -> list[list[Buffer]]:
    """What can't be read, what is cut short, and what is for others."""
    chance = random.Random(0)
    garbage: list[list[Buffer]] = [[chance.randbytes(chance.randrange(200))] for _ in range(50)]
    frame = make_frame(0)
    others = [
        encode(Delivery("clip", 2**53, 5, 0.1, "ok", "", "", None, 25.0)),
        encode(Grant("clip", 5, Committed())),
        encode(Accept("b", 2**53, 2**53)),
        encode(frame, [pixels(frame)]),
        encode(StepFailed("b", 1, "no")),
        encode(make_report()),
        encode(RequestHello()),
    ]
    cut = [encode(Work("b", 3, 0, (2, 4, 3)), [bytes(23)]), [b"\x82\xa1x" + b"\x91" * 100_000], [b""]]
    return [*garbage, *others, *cut]
