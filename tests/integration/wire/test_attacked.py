"""The broker's process with strangers at its socket: it goes on, in bounded memory, for the honest ones."""

import contextlib
import random
import resource
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from pipeline.supervisor.child_main import KILLED_STATUS
from pipeline.wire.codec import encode
from pipeline.wire.messages import MAX_HEADER_BYTES, Goodbye
from tests.support.attacked_run import MAX_MESSAGE_BYTES, Attacked
from tests.support.broker_world import make_frame, make_hello, pixels

GROWTH_MB = 64
"""By which the broker's memory may have grown after an attack: what it holds for a moment included."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(params=["ipc", "tcp"])
def broker(request: pytest.FixtureRequest) -> Iterator[Attacked]:
    with tempfile.TemporaryDirectory(prefix="a-", dir="/tmp") as place:  # short, as paths of sockets must be
        attacked = Attacked(request.param, Path(place))
        yield attacked
        attacked.close()


def send_all(dealer: "zmq.Socket[bytes]", parts: list[bytes]) -> None:
    """Send as fast as the broker takes it in."""
    dealer.setsockopt(zmq.SNDTIMEO, 30_000)
    dealer.send_multipart(parts)


def test_garbage_is_counted_and_fills_neither_memory_nor_log(broker: Attacked) -> None:
    chance = random.Random(0)
    before_mb = broker.rss_mb
    with broker.dealers(3) as dealers:
        for number in range(3000):
            parts = [chance.randbytes(chance.randrange(300)) for _ in range(chance.randrange(1, 5))]
            send_all(dealers[number % 3], parts)
        report = broker.serves()
        assert report.bad_messages == 3000
    assert broker.rss_mb - before_mb < GROWTH_MB
    assert 3 <= sum("is dropped" in line for line in broker.log) < 300, "not a line for each message"


def test_messages_that_are_nearly_right_are_refused(broker: Attacked) -> None:
    chance = random.Random(1)
    frame = make_frame(0)
    good = [bytes(part) for part in encode(frame, [pixels(frame)])]
    with broker.dealers(1) as (dealer,):
        for number in range(50):
            header = bytearray(good[0])
            header[chance.randrange(len(header))] ^= 1 << chance.randrange(8)
            send_all(dealer, [bytes(header), good[1], b"one part too many"][: 1 + 2 * (number % 2)])
        assert broker.serves().bad_messages == 50


def test_nested_and_endless_headers_are_refused(broker: Attacked) -> None:
    with broker.dealers(1) as (dealer,):
        send_all(dealer, [b"\x82\xa1x" + b"\x91" * 100_000])
        send_all(dealer, [bytes(MAX_HEADER_BYTES + 1)])
        send_all(dealer, [b"x"] * 5000)
        assert broker.serves().bad_messages == 3


def test_a_part_that_is_too_long_does_not_get_in(broker: Attacked) -> None:
    before_mb = broker.rss_mb
    with broker.dealers(4) as dealers:
        for dealer in dealers:
            dealer.send_multipart([b"x", bytes(100 * MAX_MESSAGE_BYTES)])
        broker.serves()
        assert broker.rss_mb - before_mb < GROWTH_MB


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" + bytes(8) + b"\x7f",
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 32),
        b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(15 + 32) + b"\x04\xff" * 40,
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 32) + b"\x06\xff\xff\xff\xff\xff\xff\xff\xff",
        bytes(range(256)) * 40,
    ],
    ids=["nothing", "a byte", "http", "half", "greeting", "bad command", "endless command", "bytes"],
)
def test_handshakes_that_go_no_further_are_nobody_s_loss(broker: Attacked, said: bytes) -> None:
    connections = [broker.raw() for _ in range(100)]
    for connection in connections:
        connection.sendall(said)
    try:
        broker.serves()
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.long
def test_thousands_of_connections_come_and_go(broker: Attacked) -> None:
    for _ in range(300):  # the first ones fill what libraries keep for later
        broker.raw().close()
    before_mb = broker.rss_mb
    for number in range(3000):
        with broker.raw() as connection:
            connection.sendall(b"\xff" + bytes(8) + b"\x7f" if number % 2 else b"")
    for _ in range(20):
        with broker.dealers(50) as dealers:
            for dealer in dealers:
                send_all(dealer, [b"nonsense"])
            time.sleep(0.05)  # for some of it to arrive: how much is all the same
    report = broker.serves()
    assert 0 < report.bad_messages <= 1000
    assert broker.rss_mb - before_mb < GROWTH_MB
    broker.until(lambda: broker.process.num_fds() < 100)


def _await_ready(connection: socket.socket) -> None:
    """Read the broker's greeting, then its READY: a byte that says command, its length, the command."""
    with connection.makefile("rb") as said:
        said.read(64)
        _, length = said.read(2)
        assert said.read(length).startswith(b"\x05READY")


@pytest.mark.parametrize("broker", ["ipc"], indirect=True)
def test_a_message_without_end_does_not_take_the_machine_s_memory(broker: Attacked) -> None:
    """ZeroMQ would collect its parts for ever. The broker ends, in a line, and would be started again."""
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    more = b"\x03" + struct.pack(">Q", 1_900_000) + bytes(1_900_000)  # a long part, and others follow
    with broker.raw() as connection:
        connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 32))
        connection.sendall(bytes([4, len(ready)]) + ready)
        _await_ready(connection)  # what comes sooner is a breach of the handshake, and closes the connection
        peak_mb = 0.0
        with contextlib.suppress(ConnectionError, psutil.Error):
            for _ in range(1000):
                connection.sendall(more)
                peak_mb = max(peak_mb, broker.rss_mb)
    assert broker.ended() == KILLED_STATUS
    assert peak_mb < 1500
    assert "sends without end" in broker.log[-1]


@pytest.mark.parametrize("broker", ["tcp"], indirect=True)
def test_more_connections_than_there_are_descriptors(broker: Attacked) -> None:
    """Those that say nothing are closed after a while, and there is room again."""
    resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    connections = [broker.raw() for _ in range(90)]
    try:
        broker.serves()
    finally:
        for connection in connections:
            connection.close()


def test_the_broker_takes_all_descriptors_that_it_may() -> None:
    """Over ipc ZeroMQ ends the process that has none left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with tempfile.TemporaryDirectory(prefix="a-", dir="/tmp") as place:
            attacked = Attacked("ipc", Path(place))
            assert resource.prlimit(attacked.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
            attacked.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_of_two_with_one_identity_the_first_one_stays(broker: Attacked) -> None:
    with broker.dealers(1, identity=b"twin") as (first,):
        first.setsockopt(zmq.RCVTIMEO, 30_000)
        first.send_multipart(encode(make_hello("detect", "twin", credits=1)))
        first.recv_multipart()  # accept
        with broker.dealers(1, identity=b"twin") as (second,):
            second.send_multipart(encode(make_hello("detect", "thief", credits=1)))
            assert not second.poll(500)
            first.send_multipart(encode(make_hello("detect", "twin", credits=1)))
            first.recv_multipart()
        first.send_multipart(encode(Goodbye()))
        broker.serves()
