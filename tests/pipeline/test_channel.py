"""The sockets, with real ZeroMQ: over ipc in a directory of the test's own, and over tcp on a free port."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.channel import BrokerChannel, Malformed, Received, StageChannel
from pipeline.endpoints import free_port
from pipeline.errors import UserError
from pipeline.messages import Heartbeat, Introduce
from tests.builders import make_frame, pixels

WAIT_MS = 5_000
LIMIT = 1_000_000


@pytest.fixture(params=["ipc", "tcp"])
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "ipc":
        return f"ipc://{tmp_path}/work", f"ipc://{tmp_path}/results"
    return f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def broker(addresses: tuple[str, str]) -> Iterator[BrokerChannel]:
    channel = BrokerChannel(*addresses, LIMIT)
    yield channel
    channel.close(linger_ms=0)


@pytest.fixture
def stage(addresses: tuple[str, str]) -> Iterator[StageChannel]:
    channel = StageChannel(addresses[0], "detect-1", LIMIT)
    yield channel
    channel.close(linger_ms=0)


def receive_one(broker: BrokerChannel) -> Received | Malformed:
    (item,) = broker.receive(WAIT_MS)
    return item


def test_there_and_back(broker: BrokerChannel, stage: StageChannel) -> None:
    frame = make_frame(0)
    assert stage.send(frame, [pixels(frame)])
    item = receive_one(broker)
    assert isinstance(item, Received)
    assert item.message == frame
    assert bytes(item.buffers[0]) == pixels(frame)
    assert item.identity.startswith(b"detect-1-")
    assert broker.send(item.identity, Introduce())
    received = stage.receive(WAIT_MS)
    assert received is not None
    assert received[0] == Introduce()


def test_a_peer_that_is_not_there_is_told_of(broker: BrokerChannel) -> None:
    assert not broker.send(b"nobody", Introduce())


def test_what_is_no_message_is_named_and_the_next_is_received(
    broker: BrokerChannel, addresses: tuple[str, str]
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.connect(addresses[0])
        stranger.send_multipart([b"GET / HTTP/1.1", b""])
        assert isinstance(receive_one(broker), Malformed)
        stranger.send(b"")
        assert isinstance(receive_one(broker), Malformed)


def test_a_part_that_is_too_long_does_not_get_in(broker: BrokerChannel, stage: StageChannel) -> None:
    frame = make_frame(0, shape=(1000, 1000, 3))
    stage.send(frame, [pixels(frame)])
    stage.send(Heartbeat())  # the connection is closed over the frame and made again
    messages = [type(i.message) for i in broker.receive(WAIT_MS) if isinstance(i, Received)]
    assert messages in ([], [Heartbeat])


def test_each_start_is_a_new_identity(broker: BrokerChannel, addresses: tuple[str, str]) -> None:
    identities = []
    for _ in range(2):
        channel = StageChannel(addresses[0], "detect-1", LIMIT)
        channel.send(Heartbeat())
        identities.append(receive_one(broker).identity)
        channel.close()
    assert identities[0] != identities[1]


def test_records_are_published(broker: BrokerChannel, addresses: tuple[str, str]) -> None:
    with zmq.Context() as context, context.socket(zmq.XSUB) as subscriber:
        subscriber.linger = 0
        subscriber.connect(addresses[1])
        subscriber.send(b"\x01")
        # A subscription takes a moment to arrive, and nothing tells when: publish until it has.
        for _ in range(500):
            broker.publish(b'{"frame": 1}')
            if subscriber.poll(10):
                break
        assert subscriber.recv(zmq.NOBLOCK) == b'{"frame": 1}'


def test_an_address_in_use_is_one_clear_line() -> None:
    port = free_port()
    taken = f"tcp://127.0.0.1:{port}"
    first = BrokerChannel(taken, f"tcp://127.0.0.1:{free_port()}", LIMIT)
    try:
        with pytest.raises(UserError, match=f"{taken} can't be bound: Address already in use"):
            BrokerChannel(taken, f"tcp://127.0.0.1:{free_port()}", LIMIT)
    finally:
        first.close(linger_ms=0)


def test_sockets_are_closed_to_other_users_and_gone_at_the_end(tmp_path: Path) -> None:
    channel = BrokerChannel(f"ipc://{tmp_path}/work", f"ipc://{tmp_path}/results", LIMIT)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    channel.close(linger_ms=0)
    assert modes == {"work": 0o600, "results": 0o600}
    assert list(tmp_path.iterdir()) == []
