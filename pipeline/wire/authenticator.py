"""Authentication over tcp: only peers whose key is listed may connect; the log says who was refused.

ZeroMQ asks (by its ZAP protocol) about each peer that has proved to hold its key. Peers without a key, or
with another broker's, fail before that; they are known from the sockets' monitors.
"""

import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import zmq
from zmq.auth import Authenticator
from zmq.utils.monitor import parse_monitor_message

from pipeline.wire.keys import BrokerKeys, role_of

DOMAINS: Final = ("work", "results")
"""The two sockets: subscribers' keys are for the results, all others for the work."""

AT_ONCE: Final = 64
"""Handshakes and monitor events per turn, so that a flood of them does not delay other messages."""

LINES: Final = 3
LINES_S: Final = 10.0
"""Refusals for one reason that are logged in this time; the others are counted."""

_FAILED: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_REASONS: Final = {
    int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): "it uses no key (NULL or PLAIN)",
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): "it has another broker's public key, or a damaged one",
}

log = logging.getLogger(__name__)


class ZapAuthenticator:
    """For the sockets of one context. Call `handle_handshakes` in each turn of the loop that uses them."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: BrokerKeys) -> None:
        self._keys = keys
        self._context = context
        self._monitors: list[_Monitor] = []
        self._refusals = Refusals()
        self._address = ""  # of the peer in question
        self._authenticator = Authenticator(context)
        for domain in DOMAINS:
            self._authenticator.configure_curve_callback(domain, self)
        self._authenticator.start()

    def protect(self, guarded: zmq.Socket[bytes], domain: str) -> None:
        """Restrict a socket, before it is bound, to the peers of `domain`."""
        guarded.setsockopt(zmq.CURVE_SERVER, 1)
        guarded.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)
        guarded.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        guarded.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an answer, peers are refused
        self._monitors.append(_Monitor(self._context, guarded, domain))

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """The sockets to poll besides the protected ones."""
        return [self._authenticator.zap_socket, *(monitor.events for monitor in self._monitors)]

    def handle_handshakes(self) -> None:
        """Answer handshakes and log failed ones, without waiting."""
        for monitor in self._monitors:
            for address, reason in monitor.failures():
                self._refusals.add(address or "an unknown address", reason)
        with contextlib.suppress(zmq.Again):
            for _ in range(AT_ONCE):
                self._answer(self._authenticator.zap_socket.recv_multipart(zmq.NOBLOCK))
        self._refusals.log_rest()

    def _answer(self, question: list[bytes]) -> None:
        self._address = _as_written(question[3].decode("ascii", "replace"))
        answering = self._authenticator.handle_zap_message(question)
        with contextlib.suppress(StopIteration):  # how a coroutine that waits for nothing ends
            answering.send(None)

    def callback(self, domain: str, key: bytes) -> bool:
        """Called by zmq's Authenticator: return whether the public key, Z85, is allowed there."""
        name = self._keys.peers.get(key.decode())
        allowed = name is not None and (role_of(name) == "subscriber") == (domain == "results")
        if not allowed:
            reason = f"the key of {name} is not for the {domain}" if name else "its key is not in the list"
            self._refusals.add(self._address, reason, f"; public key {key.decode()}")
        return allowed

    def name_of(self, frame: zmq.Frame) -> str:
        """Return the name of the key of a message's sender; "" if it has none."""
        try:
            return self._keys.peers.get(str(frame.get("User-Id")), "")
        except zmq.ZMQError:  # no such property: no key
            return ""

    def close(self) -> None:
        """Call it after the protected sockets are closed."""
        for monitor in self._monitors:
            monitor.events.close(0)
        self._authenticator.stop()


class _Monitor:
    """Reads what a protected socket reports of its connections."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], guarded: zmq.Socket[bytes], domain: str
    ) -> None:
        place = f"inproc://monitor-{domain}"
        guarded.monitor(place, _FAILED | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self.events = context.socket(zmq.PAIR)
        # With a limit, ZeroMQ's thread would wait for us to read.
        self.events.setsockopt(zmq.RCVHWM, 0)
        self.events.connect(place)
        self._addresses: dict[int, str] = {}  # by file descriptor
        self._failed = ""  # why the handshake failed; its connection is reported closed next

    def failures(self) -> Iterator[tuple[str, str]]:
        """Yield address and reason of each failed handshake; the address is "" if unknown."""
        events = list(self._read())
        closed_at = {value: at for at, (kind, value) in enumerate(events) if kind == zmq.EVENT_DISCONNECTED}
        for at, (kind, value) in enumerate(events):
            match kind:
                case zmq.EVENT_ACCEPTED:
                    # The number of a closed connection may belong to another one by now.
                    gone = closed_at.get(value, -1) > at
                    self._addresses[value] = "" if gone else _address(value)
                case zmq.EVENT_DISCONNECTED:
                    address = self._addresses.pop(value, "")
                    if self._failed:
                        yield address, self._failed
                    self._failed = ""
                case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                    self._failed = _REASONS.get(value, "it breaks ZeroMQ's protocol")
                case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                    self._failed = "it left, or fell silent, without showing a key"

    def _read(self) -> Iterator[tuple[int, int]]:
        """Yield what has happened, and a number: a file descriptor or what went wrong."""
        with contextlib.suppress(zmq.Again):
            for _ in range(AT_ONCE):
                event = parse_monitor_message(self.events.recv_multipart(zmq.NOBLOCK))
                yield int(event["event"]), int(event["value"])


class Refusals:
    """Logs refusals, a few in each period; the others are counted."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self._refused: Counter[str] = Counter()  # by reason, of which there are few

    def add(self, address: str, reason: str, detail: str = "") -> None:
        self.log_rest()
        if not self._refused:
            self._until_s = time.monotonic() + LINES_S
        self._refused[reason] += 1
        if self._refused[reason] <= LINES:
            log.warning("refused a peer at %s: %s%s", address, reason, detail)

    def log_rest(self) -> None:
        """At the end of a period, log how many were not logged."""
        if not self._refused or time.monotonic() < self._until_s:
            return
        rest = sum(max(0, count - LINES) for count in self._refused.values())
        if rest:
            log.warning("refused %d more in the last %.0f s", rest, LINES_S)
        self._refused.clear()


def _address(descriptor: int) -> str:
    """Return `host:port` of the other end of a connection, by its descriptor; "" if it is closed."""
    try:
        connection = socket.socket(fileno=descriptor)
        try:
            host, port = connection.getpeername()[:2]
        finally:
            connection.detach()  # the descriptor is ZeroMQ's
    except OSError:
        return ""
    return f"{_as_written(host)}:{port}"


def _as_written(host: str) -> str:
    """Return an IPv4 address without the prefix that sockets for both IP versions give it."""
    return host.removeprefix("::ffff:")
