"""The ZeroMQ sockets of the broker and the stages.

The broker binds a ROUTER for the work and a PUB for the results; every stage connects with a DEALER. A stage
has a new identity at each start, so that late messages of an earlier process are recognised. Over tcp both
ends always have CURVE keys; `ipc` sockets are in a directory that only their owner can enter.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq

from pipeline.common.errors import LateError, UserError
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import Buffer, Message, MessageError

if TYPE_CHECKING:  # a run over ipc starts faster without them
    from pipeline.wire.keys import BrokerKeys, StageKeys

HIGH_WATER_MARK: Final = 64
"""Messages in a socket's buffer. Credits keep it far from full; this bounds peers that ignore them."""

PUBLISH_HIGH_WATER_MARK: Final = 1000
"""Records that a slow subscriber may lag behind before it loses some: it never slows the run down."""

SUBSCRIPTION_BYTES: Final = 4096
"""The longest message of a subscriber, which only names what it subscribes to."""

CURVE_BYTES: Final = 64
"""More than CURVE adds to a message part: 33 by RFC 26."""

HANDSHAKE_MS: Final = 5000
LINGER_MS: Final = 1000

REDIAL_S: Final = 1.0
"""ZeroMQ does not reconnect after a failed handshake; the stage does, after this time."""

_HANDSHAKES: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Received(NamedTuple):
    """A message with its sender and buffers."""

    identity: bytes
    message: Message | MessageError  # the error of one that can't be decoded
    buffers: Sequence[Buffer]
    key: str | None  # name of the sender's key; None over ipc, which has none


def _set_up(socket: zmq.Socket[bytes], max_message_bytes: int) -> None:
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, max_message_bytes + CURVE_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.IPV6, 1)
    # Close a connection without an answer: a host that has vanished does not close it.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)


class BrokerChannel:
    """The broker's end of all connections."""

    def __init__(
        self, address: str, publish: str, max_message_bytes: int, keys: "BrokerKeys | None" = None
    ) -> None:
        """Bind both addresses.

        Raises UserError if one is in use or can't be bound, ValueError for tcp without keys.
        """
        self._context = zmq.Context()
        authenticator = None
        if keys is not None:
            from pipeline.wire.authenticator import ZapAuthenticator

            authenticator = ZapAuthenticator(self._context, keys)
        self._authenticator = authenticator
        self._router = self._context.socket(zmq.ROUTER)
        _set_up(self._router, max_message_bytes)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._publisher = self._context.socket(zmq.PUB)
        _set_up(self._publisher, SUBSCRIPTION_BYTES)
        self._publisher.setsockopt(zmq.SNDHWM, PUBLISH_HIGH_WATER_MARK)
        self._socket_files: list[Path] = []
        self._over_tcp = address.startswith("tcp://")
        try:
            self._open(self._router, address, "work")
            self._open(self._publisher, publish, "results")
        except (UserError, ValueError):
            self.close(linger_ms=0)
            raise
        self._poller = zmq.Poller()
        for socket in (self._router, *(self._authenticator.sockets if self._authenticator else ())):
            self._poller.register(socket, zmq.POLLIN)

    def _open(self, socket: zmq.Socket[bytes], where: str, domain: str) -> None:
        """Bind; other addresses than `ipc` get an authenticator."""
        if where.startswith("ipc://"):
            _bind(socket, where)
            self._socket_files.append(Path(where.removeprefix("ipc://")))
            self._socket_files[-1].chmod(0o600)
            return
        if self._authenticator is None:
            raise ValueError(f"{where}: an address that others reach needs keys")
        self._authenticator.protect(socket, domain)
        _bind(socket, where)

    def receive(self, timeout_ms: int) -> Iterator[Received]:
        """Wait for a message, then yield those that have arrived, up to the size of the buffer."""
        ready = dict(self._poller.poll(timeout_ms))
        if self._authenticator is not None:
            self._authenticator.handle_handshakes()
        if self._router not in ready:
            return
        for _ in range(HIGH_WATER_MARK):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            message: Message | MessageError
            try:
                message, buffers = decode([frame.buffer for frame in frames[1:]])
            except MessageError as error:
                message, buffers = MessageError(str(error)), ()  # a new one, which holds no buffer
            yield Received(frames[0].bytes, message, buffers, self._key_of(frames[1]))

    def _key_of(self, frame: zmq.Frame) -> str | None:
        return self._authenticator.name_of(frame) if self._authenticator and self._over_tcp else None

    def send(self, identity: bytes, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        """Send to one peer; return False if it is not connected or its buffer is full."""
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
        """Publish one record, JSON."""
        self._publisher.send(record)

    def close(self, linger_ms: int = LINGER_MS) -> None:
        self._router.close(linger_ms)
        self._publisher.close(linger_ms)
        if self._authenticator is not None:
            self._authenticator.close()
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
    """A stage's connection to the broker. It reconnects by itself to a new broker."""

    def __init__(
        self, address: str, name: str, max_message_bytes: int, keys: "StageKeys | None" = None
    ) -> None:
        """Connect, without waiting for the broker. Raises ValueError for tcp without keys."""
        if address.startswith("tcp://") and keys is None:
            raise ValueError(f"{address}: an address that others reach needs keys")
        self._address = address
        self._keys = keys
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        _set_up(self._dealer, max_message_bytes)
        self._dealer.setsockopt(zmq.IDENTITY, f"{name}-{os.urandom(6).hex()}".encode())
        self._dealer.setsockopt(zmq.RECONNECT_IVL, 50)
        self._dealer.setsockopt(zmq.RECONNECT_IVL_MAX, 250)  # a small part of the time that recovery may take
        self._poller = zmq.Poller()
        self._poller.register(self._dealer, zmq.POLLIN)
        self.failed_handshakes = 0
        """In a row. A broker that dies causes one; more mean that the other end has another key."""
        self.connections = 0
        """Over tcp, how many there have been; messages of the last one may be lost."""
        self._redial_s: float | None = None
        self._events = self._use_keys(keys) if keys is not None else None
        self._dealer.connect(address)

    def _use_keys(self, keys: "StageKeys") -> zmq.Socket[bytes]:
        """Use our key and the broker's; return the socket on which ZeroMQ reports handshakes."""
        self._dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        self._dealer.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        self._dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.broker)
        self._dealer.monitor("inproc://handshakes", _HANDSHAKES)
        events = self._context.socket(zmq.PAIR)
        events.setsockopt(zmq.RCVHWM, 0)  # with a limit, ZeroMQ's thread would wait for us
        events.connect("inproc://handshakes")
        self._poller.register(events, zmq.POLLIN)
        return events

    def receive(self, timeout_ms: int) -> tuple[Message, Sequence[Buffer]] | None:
        """Wait for a message; None if none came.

        Raises MessageError for one that is not ours, UserError if the broker refuses our key.
        """
        ready = dict(self._poller.poll(timeout_ms))
        if self._events is not None:
            self._watch_handshakes(self._events)
        if self._dealer not in ready:
            return None
        frames = self._dealer.recv_multipart(copy=False)
        return decode([frame.buffer for frame in frames])

    def _watch_handshakes(self, events: zmq.Socket[bytes]) -> None:
        from zmq.utils.monitor import parse_monitor_message  # which loads asyncio

        while events.poll(0):
            match parse_monitor_message(events.recv_multipart())["event"]:
                case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self.connections += 1
                    self.failed_handshakes = 0
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    raise self._refusal()
                case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                    self.failed_handshakes += 1
                    self._redial_s = time.monotonic() + REDIAL_S
                case _:
                    self.failed_handshakes += 1
        if self._redial_s is not None and time.monotonic() >= self._redial_s:
            self._redial_s = None
            with contextlib.suppress(zmq.ZMQError):  # as a rule ZeroMQ has disconnected already
                self._dealer.disconnect(self._address)
            self._dealer.connect(self._address)

    def _refusal(self) -> UserError:
        """Return the error for a key that is refused; a LateError once it was accepted before."""
        assert self._keys is not None
        kind = LateError if self.connections else UserError
        return kind(
            f"{self._address}: the broker refuses the key {self._keys.name!r}: {self._keys.name}.public "
            "must lie in its directory of keys when it starts"
        )

    def send(self, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        """Send to the broker; return False if the buffer is full: the broker is missing."""
        try:
            self._dealer.send_multipart(encode(message, buffers), zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def close(self, linger_ms: int = LINGER_MS) -> None:
        self._dealer.close(linger_ms)
        if self._events is not None:
            self._events.close(0)
        self._context.term()
