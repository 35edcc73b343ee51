"""The sockets. Nothing else in the project imports zmq.

The broker binds a ROUTER for the work and a PUB for the results; every stage dials in with a DEALER. A
stage takes a new identity at each start, so that its predecessor's late messages are known as such.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import zmq

from pipeline.errors import UserError
from pipeline.messages import AnyMessage, Buffer, Message, MessageError, decode, encode

HIGH_WATER_MARK: Final = 64
"""Messages in a socket's buffer. Credits keep the number far below; this bounds a peer that breaks them."""

PUBLISH_HIGH_WATER_MARK: Final = 1000
"""Records that a slow subscriber may lag before it misses some: subscribers never hold up the run."""

HANDSHAKE_MS: Final = 5000
LINGER_MS: Final = 1000


class Received(NamedTuple):
    """A message, whom it came from, and its buffers."""

    identity: bytes
    message: AnyMessage
    buffers: Sequence[Buffer]


class Malformed(NamedTuple):
    """What arrived and is no message of ours."""

    identity: bytes
    reason: str


def _set_up(socket: zmq.Socket[bytes], max_message_bytes: int) -> None:
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, max_message_bytes)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.IPV6, 1)
    # A connection over which nothing comes back is closed: a host that vanished says no goodbye.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)


class BrokerChannel:
    """The broker's end of all connections."""

    def __init__(self, address: str, publish: str, max_message_bytes: int) -> None:
        """Bind both addresses. Raises UserError if one is in use or can't be bound."""
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        _set_up(self._router, max_message_bytes)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._publisher = self._context.socket(zmq.PUB)
        self._publisher.setsockopt(zmq.SNDHWM, PUBLISH_HIGH_WATER_MARK)
        self._publisher.setsockopt(zmq.IPV6, 1)
        self._socket_files: list[Path] = []
        try:
            for socket, where in ((self._router, address), (self._publisher, publish)):
                _bind(socket, where)
                if where.startswith("ipc://"):
                    self._socket_files.append(Path(where.removeprefix("ipc://")))
                    self._socket_files[-1].chmod(0o600)
        except UserError:
            self.close(linger_ms=0)
            raise

    def receive(
        self, timeout_ms: int, ignores: Callable[[bytes], bool] = lambda identity: False
    ) -> Iterator[Received | Malformed]:
        """Wait for a message, then yield all that are there, at most as many as the buffer holds.

        What comes from a peer that `ignores` names by its identity is not even decoded.
        """
        if not self._router.poll(timeout_ms):
            return
        for _ in range(HIGH_WATER_MARK):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            identity = frames[0].bytes
            if ignores(identity):
                continue
            try:
                message, buffers = decode([frame.buffer for frame in frames[1:]])
            except MessageError as error:
                yield Malformed(identity, str(error))
            else:
                yield Received(identity, message, buffers)

    def send(self, identity: bytes, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        """Send to one peer; False if it is not there any more or takes nothing in."""
        try:
            self._router.send_multipart([identity, *encode(message, buffers)], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def publish(self, record: Buffer) -> None:
        """Publish one record, JSON, to whoever has subscribed."""
        self._publisher.send(record)

    def close(self, linger_ms: int = LINGER_MS) -> None:
        self._router.close(linger_ms)
        self._publisher.close(linger_ms)
        self._context.term()
        for path in self._socket_files:
            path.unlink(missing_ok=True)


def _bind(socket: zmq.Socket[bytes], address: str) -> None:
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise UserError(
            f"broker: {address} can't be bound: {error.strerror or error}; "
            "end the program that uses it or set broker.address and broker.publish to others"
        ) from error


class StageChannel:
    """A stage's connection to the broker. It connects again by itself when the broker is new."""

    def __init__(self, address: str, name: str, max_message_bytes: int) -> None:
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        _set_up(self._dealer, max_message_bytes)
        self._dealer.setsockopt(zmq.IDENTITY, f"{name}-{secrets.token_hex(6)}".encode())
        self._dealer.setsockopt(zmq.RECONNECT_IVL, 50)
        self._dealer.setsockopt(zmq.RECONNECT_IVL_MAX, 250)  # of what recovery may take, a small part
        self._dealer.connect(address)

    def receive(self, timeout_ms: int) -> tuple[AnyMessage, Sequence[Buffer]] | None:
        """Wait for a message; None if none came. Raises MessageError for one that is not ours."""
        if not self._dealer.poll(timeout_ms):
            return None
        frames = self._dealer.recv_multipart(copy=False)
        return decode([frame.buffer for frame in frames])

    def send(self, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        """Send to the broker; False if the buffer is full, which only a missing broker brings about."""
        try:
            self._dealer.send_multipart(encode(message, buffers), zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def close(self, linger_ms: int = LINGER_MS) -> None:
        self._dealer.close(linger_ms)
        self._context.term()
