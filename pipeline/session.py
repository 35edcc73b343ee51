"""A stage's conversation with the broker: hello, heartbeats, and hello again to a new broker."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.assignment import Assignment
from pipeline.channel import StageChannel
from pipeline.errors import UserError
from pipeline.messages import (
    AnyMessage,
    Buffer,
    Goodbye,
    Heartbeat,
    Hello,
    Introduce,
    Message,
    MessageError,
    Refused,
)

HEARTBEAT_S: Final = 0.5

log = logging.getLogger(__name__)


class Session:
    """Use as a context manager: leaving it says goodbye, unless by an error: that is a death."""

    def __init__(self, assignment: Assignment, make_hello: Callable[[], Hello]) -> None:
        """`make_hello` tells the state of the stage at the time when it is called."""
        self._channel = StageChannel(assignment.address, assignment.name, assignment.max_message_bytes)
        self._make_hello = make_hello
        self._next_heartbeat_s = 0.0
        self._send_hello()

    def _send_hello(self) -> None:
        self._channel.send(self._make_hello())

    def receive(self, timeout_ms: int) -> tuple[AnyMessage, Sequence[Buffer]] | None:
        """Wait for a message to this stage; None if none came in time.

        Raises UserError if the broker refuses this stage.
        """
        self.beat()
        try:
            received = self._channel.receive(timeout_ms)
        except MessageError as error:
            log.warning("a message of the broker can't be read and is dropped: %s", error)
            return None
        if received is None:
            return None
        match received[0]:
            case Introduce():
                self._send_hello()
                return received
            case Refused(reason):
                raise UserError(reason)
        return received

    def beat(self) -> None:
        """Show that this loop is alive. Called by the loop that does the work, never from beside it."""
        now_s = time.monotonic()
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + HEARTBEAT_S
            self._channel.send(Heartbeat())

    def send(self, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        return self._channel.send(message, buffers)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._channel.send(Goodbye())
        self._channel.close()
