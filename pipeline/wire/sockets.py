"""The sockets. Only they, the keys (security.py) and the door (gate.py) import zmq.

The broker binds a ROUTER for the work and a PUB for the results; every stage dials in with a DEALER. A
stage takes a new identity at each start, so that its predecessor's late messages are known as such.
Over tcp both ends have CURVE keys, always; `ipc` is guarded by the directory that the socket lies in.
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
from pipeline.wire.messages import AnyMessage, Buffer, Message, MessageError

if TYPE_CHECKING:  # keys are for tcp alone: a run over ipc starts without their modules
    from pipeline.wire.authenticator import Gate
    from pipeline.wire.keys import BrokerKeys, StageKeys

HIGH_WATER_MARK: Final = 64
"""Messages in a socket's buffer. Credits keep the number far below; this bounds a peer that breaks them."""

PUBLISH_HIGH_WATER_MARK: Final = 1000
"""Records that a slow subscriber may lag before it misses some: subscribers never hold up the run."""

SUBSCRIPTION_BYTES: Final = 4096
"""The longest message that a subscriber may send: what it subscribes to."""

CURVE_BYTES: Final = 64
"""What CURVE adds to a part at the most (33 by RFC 26): parts of the greatest length travel over tcp too."""

HANDSHAKE_MS: Final = 5000
LINGER_MS: Final = 1000

REDIAL_S: Final = 1.0
"""ZeroMQ dials no more after a broken handshake; this is how long the stage waits before it does."""

_HANDSHAKES: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Received(NamedTuple):
    """A message, whom it came from, and its buffers."""

    identity: bytes
    message: AnyMessage
    buffers: Sequence[Buffer]
    key: str | None = None  # name of the sender's key; None over ipc, which has none


class Malformed(NamedTuple):
    """What arrived and is no message of ours."""

    identity: bytes
    reason: str
    key: str | None = None


def _set_up(socket: zmq.Socket[bytes], max_message_bytes: int) -> None:
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, max_message_bytes + CURVE_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.IPV6, 1)
    # A connection over which nothing comes back is closed: a host that vanished says no goodbye.
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
        self._gate = None if keys is None else _gate(self._context, keys)
        self._router = self._context.socket(zmq.ROUTER)
        _set_up(self._router, max_message_bytes)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._publisher = self._context.socket(zmq.PUB)
        _set_up(self._publisher, SUBSCRIPTION_BYTES)
        self._publisher.setsockopt(zmq.SNDHWM, PUBLISH_HIGH_WATER_MARK)
        self._socket_files: list[Path] = []
        self._guarded = address.startswith("tcp://")
        try:
            self._open(self._router, address, "work")
            self._open(self._publisher, publish, "results")
        except (UserError, ValueError):
            self.close(linger_ms=0)
            raise
        self._poller = zmq.Poller()
        for socket in (self._router, *(self._gate.sockets if self._gate else ())):
            self._poller.register(socket, zmq.POLLIN)

    def _open(self, socket: zmq.Socket[bytes], where: str, domain: str) -> None:
        """Bind, behind the gate if others can reach the address."""
        if where.startswith("ipc://"):
            _bind(socket, where)
            self._socket_files.append(Path(where.removeprefix("ipc://")))
            self._socket_files[-1].chmod(0o600)
            return
        if self._gate is None:
            raise ValueError(f"{where}: an address that others reach needs keys")
        self._gate.guard(socket, domain)
        _bind(socket, where)

    def receive(self, timeout_ms: int) -> Iterator[Received | Malformed]:
        """Wait for a message, then yield all that are there, at most as many as the buffer holds."""
        ready = dict(self._poller.poll(timeout_ms))
        if self._gate is not None:
            self._gate.attend()
        if self._router not in ready:
            return
        for _ in range(HIGH_WATER_MARK):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            identity = frames[0].bytes
            key = self._gate.name_of(frames[1]) if self._gate is not None and self._guarded else None
            try:
                message, buffers = decode([frame.buffer for frame in frames[1:]])
            except MessageError as error:
                yield Malformed(identity, str(error), key)
            else:
                yield Received(identity, message, buffers, key)

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
        if self._gate is not None:
            self._gate.close()
        self._context.term()
        for path in self._socket_files:
            path.unlink(missing_ok=True)


def _gate(context: zmq.Context[zmq.Socket[bytes]], keys: "BrokerKeys") -> "Gate":
    from pipeline.wire.authenticator import Gate

    return Gate(context, keys)


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

    def __init__(
        self, address: str, name: str, max_message_bytes: int, keys: "StageKeys | None" = None
    ) -> None:
        """Dial; nothing is waited for. Raises ValueError for tcp without keys."""
        if address.startswith("tcp://") and keys is None:
            raise ValueError(f"{address}: an address that others reach needs keys")
        self._address = address
        self._keys = keys
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        _set_up(self._dealer, max_message_bytes)
        self._dealer.setsockopt(zmq.IDENTITY, f"{name}-{os.urandom(6).hex()}".encode())
        self._dealer.setsockopt(zmq.RECONNECT_IVL, 50)
        self._dealer.setsockopt(zmq.RECONNECT_IVL_MAX, 250)  # of what recovery may take, a small part
        self._poller = zmq.Poller()
        self._poller.register(self._dealer, zmq.POLLIN)
        self.failed_handshakes = 0
        """In a row. A broker that dies makes for one; more say that the other end is not who it should be."""
        self.connections = 0
        """Over tcp: how often the broker has been met. What was on its way the last time may be lost."""
        self._redial_s: float | None = None
        self._events = self._use_keys(keys) if keys is not None else None
        self._dealer.connect(address)

    def _use_keys(self, keys: "StageKeys") -> zmq.Socket[bytes]:
        """Show our key, expect the broker's, and return where the socket tells how handshakes went."""
        self._dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        self._dealer.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        self._dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.broker)
        self._dealer.monitor("inproc://handshakes", _HANDSHAKES)
        events = self._context.socket(zmq.PAIR)
        events.setsockopt(zmq.RCVHWM, 0)  # ZeroMQ's own thread never waits for us to read them
        events.connect("inproc://handshakes")
        self._poller.register(events, zmq.POLLIN)
        return events

    def receive(self, timeout_ms: int) -> tuple[AnyMessage, Sequence[Buffer]] | None:
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
            with contextlib.suppress(zmq.ZMQError):  # as a rule ZeroMQ has given it up already
                self._dealer.disconnect(self._address)
            self._dealer.connect(self._address)

    def _refusal(self) -> UserError:
        """What there is to say of a key that is not let in; once it was, frames may have come."""
        assert self._keys is not None
        kind = LateError if self.connections else UserError
        return kind(
            f"{self._address}: the broker refuses the key {self._keys.name!r}: {self._keys.name}.public "
            "must lie in its directory of keys when it starts"
        )

    def send(self, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        """Send to the broker; False if the buffer is full, which only a missing broker brings about."""
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
