"""A broker's process as in earnest, strangers at its socket, and honest stages that ask to be served."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import zmq

from pipeline.broker.spec import BrokerRules
from pipeline.common.files import PROJECT
from pipeline.config.schema import BrokerSettings
from pipeline.wire.addresses import free_port
from pipeline.wire.assignment import Assignment
from pipeline.wire.keys import make_keys, stage_keys
from pipeline.wire.messages import (
    Accept,
    Buffer,
    Commit,
    Committed,
    Delivery,
    Grant,
    Heartbeat,
    Message,
    StatusReport,
    Work,
)
from pipeline.wire.sockets import StageChannel
from stages.classify import spec as classify
from stages.detect import spec as detect
from stages.stage import ROLES
from tests.support.broker_world import classified, detected, make_frame, make_hello, make_source, pixels

LIMIT_S = 60.0
MAX_MESSAGE_BYTES = 2_000_000
MAX_BYTES = 16_000_000


class Attacked:
    """A broker in a process of its own; `log` is what it has said."""

    def __init__(self, scheme: str, place: Path) -> None:
        self.keys = place / "keys" if scheme == "tcp" else None
        if self.keys is not None:
            make_keys(self.keys, ROLES)
        self.address = f"ipc://{place}/work" if scheme == "ipc" else f"tcp://127.0.0.1:{free_port()}"
        publish = f"ipc://{place}/results"
        broker = BrokerSettings(max_bytes=MAX_BYTES, file_window=4)
        steps = [
            detect.step(detect.DetectSettings()),
            classify.step(classify.ClassifySettings(max_batch=8)),
        ]
        options = BrokerRules(broker, steps, sources=["clip"], encoding="raw")
        assignment = Assignment(
            "broker", "pipeline.broker.main", "broker", "run/broker", psutil.Process().pid,
            self.address, publish,
            MAX_MESSAGE_BYTES, "info", msgspec.Raw(msgspec.json.encode(options)),
            keys=str(self.keys or ""),
        )  # fmt: skip
        self._log = place / "log"
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "pipeline.supervisor.child_main", "broker"],
                cwd=PROJECT, stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        assert self._popen.stdin is not None
        with self._popen.stdin as stdin:
            stdin.write(msgspec.json.encode(assignment))
        self.process = psutil.Process(self._popen.pid)
        self.until(self._listens)

    @property
    def log(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines()

    @property
    def rss_mb(self) -> float:
        return float(self.process.memory_info().rss) / 1e6

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), self.raw():
            return True
        return False

    def until(self, what: Any) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while not what():
            assert self._popen.poll() is None, "the broker has ended:\n" + "\n".join(self.log)
            assert time.monotonic() < deadline_s, "waited too long:\n" + "\n".join(self.log)
            time.sleep(0.02)

    def raw(self) -> socket.socket:
        """A connection without a word of ZeroMQ."""
        if self.address.startswith("ipc://"):
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self.address.removeprefix("ipc://"))
            except OSError:
                connection.close()
                raise
            return connection
        host, _, port = self.address.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)))

    @contextlib.contextmanager
    def dealers(self, count: int, identity: bytes = b"") -> Iterator[list["zmq.Socket[bytes]"]]:
        """Sockets of ZeroMQ, let in as a detector would be; what they send is the test's affair."""
        with zmq.Context() as context, contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(count)]
            for dealer in sockets:
                dealer.linger = 0
                if identity:
                    dealer.setsockopt(zmq.IDENTITY, identity)
                if self.keys is not None:
                    keys = stage_keys(self.keys, "detect")
                    dealer.curve_publickey, dealer.curve_secretkey = keys.public, keys.secret
                    dealer.curve_serverkey = keys.broker
                dealer.connect(self.address)
            yield sockets

    def stage(self, role: str) -> StageChannel:
        keys = stage_keys(self.keys, role) if self.keys is not None else None
        return StageChannel(self.address, role, MAX_MESSAGE_BYTES, keys)

    def serves(self) -> StatusReport:
        """Whether an honest frame finds its way through, past whoever else is there; the report after it."""
        with contextlib.ExitStack() as stack:
            stages = {
                role: self.stage(role) for role in ("supervisor", "display", "detect", "classify", "capture")
            }
            for stage in stages.values():
                stack.callback(stage.close, 0)
            return _one_frame(stages)

    def ended(self) -> int:
        return self._popen.wait(LIMIT_S)

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait()


def _one_frame(stages: dict[str, StageChannel]) -> StatusReport:
    """Be every honest stage of a run of one frame."""
    source, epoch, deadline_s = make_source("clip"), 0, time.monotonic() + LIMIT_S
    for role, stage in stages.items():
        credits = 0 if role in ("capture", "supervisor") else 2
        info = source if role == "capture" else None
        stage.send(make_hello(role, f"honest-{role}", credits=credits, source=info, instance=_instance(role)))
    while time.monotonic() < deadline_s:
        for role, stage in stages.items():
            stage.send(Heartbeat())
            while (received := stage.receive(5)) is not None:
                message = received[0]
                if isinstance(message, Accept) and role == "capture":
                    epoch = message.epoch
                if isinstance(message, StatusReport) and any(s.committed.ok for s in message.sources):
                    return message
                for answer in _answers(message, epoch):
                    stage.send(*answer)
    raise AssertionError("an honest run is not served")


def _instance(role: str) -> str:
    return "run" if role == "supervisor" else f"run/{role}"


def _answers(message: Message, epoch: int) -> Iterator[tuple[Message, Sequence[Buffer]]]:
    match message:
        case Grant(credits=credits) if credits:
            frame = make_frame(0, epoch=epoch)
            yield frame, [pixels(frame)]
        case Work() if message.shape is not None:
            yield detected(message)
        case Work():
            yield classified(message)
        case Delivery(source, sequence):
            yield Commit(source, Committed(sequence + 1, ok=sequence + 1), [5], 5), [b"{}"]
