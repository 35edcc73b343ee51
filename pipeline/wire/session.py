"""A stage's or supervisor's session with the broker: hello, heartbeats, and hello again to a new broker.

A stage on another machine asks the broker's time before it says hello, and with each heartbeat, as NTP does:
half the round trip bounds the error of an answer. As in NTP's clock filter (RFC 5905, section 10) the answer
with the least error counts, and errors grow with age, since two clocks drift apart.
"""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.wire.addresses import is_remote
from pipeline.wire.assignment import Assignment
from pipeline.wire.messages import (
    LABEL_LENGTH,
    Buffer,
    Clock,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    MessageError,
    Refused,
    RequestHello,
)
from pipeline.wire.sockets import LINGER_MS, StageChannel

HEARTBEAT_S: Final = 0.5

AGAIN_S: Final = 1.0
"""After a reconnection a new broker requests a hello; without a request one is sent after this time."""

log = logging.getLogger(__name__)


class Session:
    """A context manager that says goodbye at its end, except after an error, which counts as a death."""

    def __init__(self, assignment: Assignment, make_hello: Callable[[], Hello]) -> None:
        """`make_hello` returns a hello with the present state of the stage."""
        keys = None
        if assignment.keys:
            from pipeline.wire.keys import stage_keys  # a run over ipc starts faster without it

            keys = stage_keys(Path(assignment.keys), assignment.role)
        self._channel = StageChannel(assignment.address, assignment.name, assignment.max_message_bytes, keys)
        self._make_hello = make_hello
        self._next_heartbeat_s = 0.0
        self._elsewhere = is_remote(assignment.address)
        self._remote = self._elsewhere and assignment.role != "supervisor"  # which measures no time
        self._frames = assignment.frames
        self._clock = ClockOffset()
        self._connections = 0
        self._again_s: float | None = None
        self._say_hello()

    @property
    def failed_handshakes(self) -> int:
        """How many have failed in a row, over tcp."""
        return self._channel.failed_handshakes

    @property
    def offset_ns(self) -> int:
        """The broker's monotonic clock minus this machine's."""
        return self._clock.offset_ns

    def _say_hello(self) -> None:
        """Say hello; on another machine than the broker's once its clock is known."""
        self._again_s = None
        if self._remote and not self._clock.known:
            self._send_heartbeat()
            return
        hello = msgspec.structs.replace(self._make_hello(), remote=self._remote, frames=self._frames)
        if self._elsewhere:  # several machines may each have a detect-1
            here = socket.gethostname().partition(".")[0]
            hello = msgspec.structs.replace(hello, name=f"{hello.name}@{here}"[:LABEL_LENGTH])
        self._channel.send(hello)

    def receive(self, timeout_ms: int) -> tuple[Message, Sequence[Buffer]] | None:
        """Wait for a message; return None if none came in time.

        Raises UserError if the broker refuses this stage or its key.
        """
        self.beat()
        self._watch_connection()
        try:
            received = self._channel.receive(timeout_ms)
        except MessageError as error:
            log.warning("a message of the broker can't be decoded and is dropped: %s", error)
            return None
        if received is None:
            return None
        match received[0]:
            case RequestHello():
                self._on_request_hello()
            case Clock(sent_ns, broker_ns):
                self._on_clock(sent_ns, broker_ns)
            case Refused(reason):
                raise UserError(reason)
        return received

    def _watch_connection(self) -> None:
        """Say hello again after a reconnection, so that lost messages are sent again."""
        now_s = time.monotonic()
        if self._channel.connections > self._connections:
            self._again_s = now_s + AGAIN_S if self._connections else None
            self._connections = self._channel.connections
        if self._again_s is not None and now_s >= self._again_s:
            log.info("reconnected to the broker")
            self._say_hello()

    def beat(self) -> None:
        """Send a heartbeat if one is due. Only the loop that does the work may call it."""
        now_s = time.monotonic()
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + HEARTBEAT_S
            self._send_heartbeat()

    def _send_heartbeat(self) -> None:
        if not self._remote:
            self._channel.send(Heartbeat())
            return
        now_ns = time.monotonic_ns()
        self._channel.send(Heartbeat(now_ns, self._clock.offset_ns, self._clock.error_ns(now_ns)))

    def _on_request_hello(self) -> None:
        """The broker is new, perhaps on another machine: forget its clock and say hello."""
        if self._remote and not self._clock.known:
            return  # its clock has been requested; hello follows
        self._clock = ClockOffset()
        self._say_hello()

    def _on_clock(self, sent_ns: int, broker_ns: int) -> None:
        was_known = self._clock.known
        self._clock.answer(sent_ns, broker_ns, time.monotonic_ns())
        if was_known:
            return
        error_ns = self._clock.error_ns(time.monotonic_ns())
        if self._clock.known and error_ns < abs(self.offset_ns):
            offset_s, error_ms = self.offset_ns / 1e9, error_ns / 1e6
            log.info("the broker's clock is %+.6f s off this one, ± %.2f ms", offset_s, error_ms)
        self._say_hello()

    def send(self, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        return self._channel.send(message, buffers)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._channel.send(Goodbye())
        self.close()

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close without a goodbye; `linger_ms` is left for messages that are not sent yet."""
        self._channel.close(linger_ms)


DRIFT: Final = 500e-6
"""The most that two clocks drift: a kernel slews its clock by as much to follow NTP (MAXFREQ of
linux/timex.h). Crystals differ by far less; RFC 5905 assumes 15e-6 (PHI)."""

FIRST_ANSWERS: Final = 4
"""Answers that make a clock known, to requests after the first answer: earlier requests may have waited for
the broker to start."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer."""

    offset_ns: int  # the broker's clock less this one
    error_ns: int  # when it came
    received_ns: int

    def error_at(self, now_ns: int) -> int:
        """Return the bound of the offset's error at `now_ns`."""
        return self.error_ns + round(DRIFT * (now_ns - self.received_ns))


class ClockOffset:
    """The best estimate of the broker's clock."""

    def __init__(self) -> None:
        self._best: Sample | None = None
        self._answers = 0  # to requests after the first answer
        self._first_ns: int | None = None  # when the first answer came

    @property
    def known(self) -> bool:
        """Whether enough answers have come."""
        return self._answers >= FIRST_ANSWERS

    @property
    def offset_ns(self) -> int:
        """What to add to this machine's monotonic clock; 0 before the first answer."""
        return self._best.offset_ns if self._best else 0

    def error_ns(self, now_ns: int) -> int:
        """Return the bound of the offset's error at `now_ns`; 0 before the first answer."""
        return self._best.error_at(now_ns) if self._best else 0

    def answer(self, sent_ns: int, broker_ns: int, received_ns: int) -> None:
        """Use an answer; `sent_ns` and `received_ns` are on this machine's clock."""
        if sent_ns > received_ns:
            return
        if self._first_ns is None:
            self._first_ns = received_ns
        self._answers += sent_ns >= self._first_ns
        middle_ns, half_ns = (sent_ns + received_ns) // 2, (received_ns - sent_ns + 1) // 2
        sample = Sample(broker_ns - middle_ns, half_ns, received_ns)
        if self._best is None or _beats(sample, self._best):
            self._best = sample


def _beats(new: Sample, best: Sample) -> bool:
    """Whether to replace the best answer: the new one's error is smaller, or the two contradict each other.

    They do so when a clock has jumped, as after a machine was suspended.
    """
    error_ns = best.error_at(new.received_ns)
    return new.error_ns <= error_ns or abs(new.offset_ns - best.offset_ns) > new.error_ns + error_ns
