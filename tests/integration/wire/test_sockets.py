"""The sockets, with real ZeroMQ: over ipc in a directory of the test's own, and over tcp on a free port."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.common.errors import UserError
from pipeline.wire.addresses import free_port
from pipeline.wire.keys import BrokerKeys, StageKeys, broker_keys, make_keys, stage_keys
from pipeline.wire.messages import Heartbeat, MessageError, RequestHello
from pipeline.wire.sockets import BrokerChannel, Received, StageChannel
from stages.stage import ROLES
from tests.support.broker_world import make_frame, pixels

WAIT_MS = 30_000
LIMIT = 1_000_000


@pytest.fixture(params=["ipc", "tcp"])
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "ipc":
        return f"ipc://{tmp_path}/work", f"ipc://{tmp_path}/results"
    return f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "keys"
    make_keys(path, ROLES)
    return path


@pytest.fixture
def ours(directory: Path, addresses: tuple[str, str]) -> BrokerKeys | None:
    return broker_keys(directory) if addresses[0].startswith("tcp") else None


@pytest.fixture
def theirs(directory: Path, addresses: tuple[str, str]) -> StageKeys | None:
    return stage_keys(directory, "detect") if addresses[0].startswith("tcp") else None


@pytest.fixture
def broker(addresses: tuple[str, str], ours: BrokerKeys | None) -> Iterator[BrokerChannel]:
    channel = BrokerChannel(*addresses, LIMIT, ours)
    yield channel
    channel.close(linger_ms=0)


@pytest.fixture
def stage(addresses: tuple[str, str], theirs: StageKeys | None) -> Iterator[StageChannel]:
    channel = StageChannel(addresses[0], "detect-1", LIMIT, theirs)
    yield channel
    channel.close(linger_ms=0)


def show_key(socket: zmq.Socket[bytes], keys: StageKeys | None) -> None:
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
        socket.curve_serverkey = keys.broker


def receive_one(broker: BrokerChannel) -> Received:
    """Wait for one message: handshakes wake the broker too."""
    deadline_s = time.monotonic() + WAIT_MS / 1000
    while time.monotonic() < deadline_s:
        for item in broker.receive(50):
            return item
    raise AssertionError("no message came")


def answer(stage: StageChannel) -> object:
    """Wait for the broker's message to a stage."""
    deadline_s = time.monotonic() + WAIT_MS / 1000
    while time.monotonic() < deadline_s:
        received = stage.receive(50)
        if received is not None:
            return received[0]
    raise AssertionError("no answer came")


def test_there_and_back(broker: BrokerChannel, stage: StageChannel, theirs: StageKeys | None) -> None:
    frame = make_frame(0)
    assert stage.send(frame, [pixels(frame)])
    item = receive_one(broker)
    assert isinstance(item, Received)
    assert item.message == frame
    assert bytes(item.buffers[0]) == pixels(frame)
    assert item.identity.startswith(b"detect-1-")
    assert item.key == (theirs.name if theirs else None)
    assert broker.send(item.identity, RequestHello())
    assert answer(stage) == RequestHello()


def test_sending_to_an_unknown_peer_returns_false(broker: BrokerChannel) -> None:
    assert not broker.send(b"nobody", RequestHello())


def test_what_is_no_message_is_named_and_the_next_is_received(
    broker: BrokerChannel, addresses: tuple[str, str], theirs: StageKeys | None
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        show_key(stranger, theirs)
        stranger.connect(addresses[0])
        stranger.send_multipart([b"GET / HTTP/1.1", b""])
        assert isinstance(receive_one(broker).message, MessageError)
        stranger.send(b"")
        assert isinstance(receive_one(broker).message, MessageError)


def test_a_part_that_is_too_long_does_not_get_in(broker: BrokerChannel, stage: StageChannel) -> None:
    frame = make_frame(0, shape=(1000, 1000, 3))
    stage.send(frame, [pixels(frame)])
    # The connection is closed over the frame, which may take a heartbeat along, and made again.
    for _ in range(100):
        stage.send(Heartbeat())
        items = list(broker.receive(50))
        if items:
            break
    assert {type(item.message) for item in items if isinstance(item, Received)} == {Heartbeat}


def test_a_part_of_the_greatest_length_gets_in(broker: BrokerChannel, stage: StageChannel) -> None:
    frame = make_frame(0, shape=(63, 5291, 3))
    assert LIMIT - len(pixels(frame)) < 3
    stage.send(frame, [pixels(frame)])
    item = receive_one(broker)
    assert isinstance(item, Received) and item.message == frame


def test_each_start_is_a_new_identity(
    broker: BrokerChannel, addresses: tuple[str, str], theirs: StageKeys | None
) -> None:
    identities = []
    for _ in range(2):
        channel = StageChannel(addresses[0], "detect-1", LIMIT, theirs)
        channel.send(Heartbeat())
        identities.append(receive_one(broker).identity)
        channel.close()
    assert identities[0] != identities[1]


def test_records_are_published(
    broker: BrokerChannel, addresses: tuple[str, str], directory: Path, ours: BrokerKeys | None
) -> None:
    with zmq.Context() as context, context.socket(zmq.XSUB) as subscriber:
        subscriber.linger = 0
        show_key(subscriber, stage_keys(directory, "subscriber") if ours else None)
        subscriber.connect(addresses[1])
        subscriber.send(b"\x01")
        # A subscription takes a moment to arrive, and nothing tells when: publish until it has.
        for _ in range(500):
            broker.publish(b'{"frame": 1}')
            list(broker.receive(0))  # where handshakes are answered
            if subscriber.poll(10):
                break
        assert subscriber.recv(zmq.NOBLOCK) == b'{"frame": 1}'


def test_an_address_in_use_is_one_clear_line(directory: Path) -> None:
    keys = broker_keys(directory)
    port = free_port()
    taken = f"tcp://127.0.0.1:{port}"
    first = BrokerChannel(taken, f"tcp://127.0.0.1:{free_port()}", LIMIT, keys)
    try:
        with pytest.raises(UserError, match=f"{taken} can't be bound: Address already in use"):
            BrokerChannel(taken, f"tcp://127.0.0.1:{free_port()}", LIMIT, keys)
    finally:
        first.close(linger_ms=0)


def test_sockets_are_closed_to_other_users_and_gone_at_the_end(tmp_path: Path) -> None:
    channel = BrokerChannel(f"ipc://{tmp_path}/work", f"ipc://{tmp_path}/results", LIMIT)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    channel.close(linger_ms=0)
    assert modes == {"work": 0o600, "results": 0o600}
    assert list(tmp_path.iterdir()) == []


def test_without_keys_there_is_no_tcp(tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    for addresses in ((address, f"ipc://{tmp_path}/results"), (f"ipc://{tmp_path}/work", address)):
        with pytest.raises(ValueError, match="needs keys"):
            BrokerChannel(*addresses, LIMIT)
    with pytest.raises(ValueError, match="needs keys"):
        StageChannel(address, "detect-1", LIMIT)
