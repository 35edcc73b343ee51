"""The broker's door over tcp: only a peer whose key is in the list comes in, and the log says who did not.

ZeroMQ asks here (its ZAP protocol) about each peer that has proved to hold its key. Peers without keys, or
with another broker's, fail before that: the sockets' own reports of failed handshakes tell of them.
"""

import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import zmq
from zmq.auth import Authenticator
from zmq.utils.monitor import parse_monitor_message

from pipeline.wire.keys import BrokerKeys, role_of

DOMAINS: Final = ("work", "results")
"""The two sockets: a subscriber's key opens the results, all others the work."""

AT_ONCE: Final = 64
"""Handshakes answered, and reports read, in one turn: a flood does not hold up the work of those inside."""

LINES: Final = 3
LINES_S: Final = 10.0
"""So many refusals for each reason are told one by one in such a time; the others are counted."""

_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_REASONS: Final = {
    int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): "it uses no key (NULL or PLAIN)",
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): "it has another broker's public key, or a damaged one",
}

log = logging.getLogger(__name__)


class _Event(NamedTuple):
    kind: int
    value: int  # a file descriptor or what went wrong, by kind


class Gate:
    """Guards sockets of one context. `attend` is called in each turn of the loop that uses them."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: BrokerKeys) -> None:
        self._keys = keys
        self._context = context
        self._monitors: list[_Monitor] = []
        self._refusals = Refusals()
        self._address = ""  # of the peer that is asked about
        self._authenticator = Authenticator(context)
        for domain in DOMAINS:
            self._authenticator.configure_curve_callback(domain, self)
        self._authenticator.start()

    def guard(self, guarded: zmq.Socket[bytes], domain: str) -> None:
        """Close a socket, before it is bound, to all but the peers that `domain` is open to."""
        guarded.setsockopt(zmq.CURVE_SERVER, 1)
        guarded.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)
        guarded.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        guarded.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # if nobody answers for the domain, nobody comes in
        self._monitors.append(_Monitor(self._context, guarded, domain))

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll for besides the guarded sockets themselves."""
        return [self._authenticator.zap_socket, *(monitor.events for monitor in self._monitors)]

    def attend(self) -> None:
        """Answer the handshakes that wait and tell of those that failed. Does not wait."""
        for monitor in self._monitors:
            for address, reason in monitor.failures():
                self._refusals.add(address or "an unknown address", reason)
        with contextlib.suppress(zmq.Again):
            for _ in range(AT_ONCE):
                self._answer(self._authenticator.zap_socket.recv_multipart(zmq.NOBLOCK))
        self._refusals.tell_rest()

    def _answer(self, question: list[bytes]) -> None:
        self._address = _as_written(question[3].decode("ascii", "replace"))
        answering = self._authenticator.handle_zap_message(question)
        with contextlib.suppress(StopIteration):  # how a coroutine that waits for nothing ends
            answering.send(None)

    def callback(self, domain: str, key: bytes) -> bool:
        """Called by the authenticator: may the holder of this public key, Z85, come in there?"""
        name = self._keys.peers.get(key.decode())
        allowed = name is not None and (role_of(name) == "subscriber") == (domain == "results")
        if not allowed:
            reason = f"the key of {name} does not open the {domain}" if name else "its key is not in the list"
            self._refusals.add(self._address, reason, f"; public key {key.decode()}")
        return allowed

    def name_of(self, frame: zmq.Frame) -> str:
        """Return the name of the key of the peer that a message came from; empty if it has none."""
        try:
            return self._keys.peers.get(str(frame.get("User-Id")), "")
        except zmq.ZMQError:  # no such property: no key
            return ""

    def close(self) -> None:
        """After the guarded sockets have been closed."""
        for monitor in self._monitors:
            monitor.events.close(0)
        self._authenticator.stop()


class _Monitor:
    """What a guarded socket reports of its connections."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], guarded: zmq.Socket[bytes], domain: str
    ) -> None:
        place = f"inproc://gate-{domain}"
        guarded.monitor(place, _FAILED | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self.events = context.socket(zmq.PAIR)
        # Without a limit: at one, ZeroMQ's own thread would stand still until somebody reads.
        self.events.setsockopt(zmq.RCVHWM, 0)
        self.events.connect(place)
        self._addresses: dict[int, str] = {}  # by file descriptor
        self._failed = ""  # why the handshake failed whose connection is reported closed next

    def failures(self) -> Iterator[tuple[str, str]]:
        """Yield address and reason of each handshake that failed; an address that is not known is empty."""
        events = list(self._read())
        closed_at = {
            event.value: at for at, event in enumerate(events) if event.kind == zmq.EVENT_DISCONNECTED
        }
        for at, event in enumerate(events):
            match event.kind:
                case zmq.EVENT_ACCEPTED:
                    # Of a connection that is gone the number may be another's: rather no address than that.
                    gone = closed_at.get(event.value, -1) > at
                    self._addresses[event.value] = "" if gone else _address(event.value)
                case zmq.EVENT_DISCONNECTED:
                    address = self._addresses.pop(event.value, "")
                    if self._failed:
                        yield address, self._failed
                    self._failed = ""
                case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                    self._failed = _REASONS.get(
                        event.value, "it does not speak ZeroMQ's protocol as it should"
                    )
                case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                    self._failed = "it left, or fell silent, without showing a key"

    def _read(self) -> Iterator[_Event]:
        with contextlib.suppress(zmq.Again):
            for _ in range(AT_ONCE):
                event = parse_monitor_message(self.events.recv_multipart(zmq.NOBLOCK))
                yield _Event(int(event["event"]), int(event["value"]))


class Refusals:
    """Tells of refusals in the log, a few in a while; of the others how many they were."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self._told: Counter[str] = Counter()  # by reason, of which there are few
        self._untold = 0

    def add(self, address: str, reason: str, detail: str = "") -> None:
        self.tell_rest()
        if not self._told:
            self._until_s = time.monotonic() + LINES_S
        if self._told[reason] < LINES:
            self._told[reason] += 1
            log.warning("refused a peer at %s: %s%s", address, reason, detail)
        else:
            self._untold += 1

    def tell_rest(self) -> None:
        """Say how many went untold, once it is time for new ones."""
        if not self._told or time.monotonic() < self._until_s:
            return
        if self._untold:
            log.warning("refused %d more in the last %.0f s", self._untold, LINES_S)
        self._told.clear()
        self._untold = 0


def _address(descriptor: int) -> str:
    """Return `host:port` of the other end of a connection that ZeroMQ has accepted; empty if it is gone."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return ""
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return ""
    finally:
        connection.detach()  # it is ZeroMQ's
    return f"{_as_written(host)}:{port}"


def _as_written(host: str) -> str:
    """Return an IPv4 address as people know it: sockets for both kinds put IPv6's prefix before it."""
    return host.removeprefix("::ffff:")
