"""Who gets in over tcp, with real sockets: nobody without the right keys gets a message in or out."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.common.errors import LateError, UserError
from pipeline.wire.addresses import free_port
from pipeline.wire.authenticator import LINES, Refusals
from pipeline.wire.codec import encode
from pipeline.wire.keys import StageKeys, broker_keys, make_keys, stage_keys
from pipeline.wire.messages import Heartbeat, RequestHello
from pipeline.wire.sockets import BrokerChannel, Received, StageChannel
from stages.stage import ROLES

LIMIT = 1_000_000
WAIT_S = 30.0
RECORD = b'{"frame": 1}'

Stranger = Callable[["zmq.Socket[bytes]"], None]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "keys"
    make_keys(path, ROLES)
    return path


@pytest.fixture
def addresses() -> tuple[str, str]:
    port = free_port()
    return f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"


@pytest.fixture
def broker(addresses: tuple[str, str], directory: Path) -> Iterator[BrokerChannel]:
    channel = BrokerChannel(*addresses, LIMIT, broker_keys(directory))
    yield channel
    channel.close(linger_ms=0)


def use(socket: "zmq.Socket[bytes]", keys: StageKeys, server: bytes | None = None) -> None:
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
    socket.curve_serverkey = server or keys.broker


def null(socket: "zmq.Socket[bytes]", directory: Path) -> None:
    """A peer that shows nothing at all."""


def plain(socket: "zmq.Socket[bytes]", directory: Path) -> None:
    socket.plain_username, socket.plain_password = b"detect", b"please"


def unknown_key(socket: "zmq.Socket[bytes]", directory: Path) -> None:
    public, secret = zmq.curve_keypair()
    use(socket, StageKeys("mine", stage_keys(directory, "detect").broker, public, secret))


def wrong_server(socket: "zmq.Socket[bytes]", directory: Path) -> None:
    use(socket, stage_keys(directory, "detect"), server=zmq.curve_keypair()[0])


def stolen_public_key(socket: "zmq.Socket[bytes]", directory: Path) -> None:
    """Its public key is in the list; the secret is not the one that belongs to it."""
    known = stage_keys(directory, "detect")
    use(socket, StageKeys("detect", known.broker, known.public, zmq.curve_keypair()[1]))


def brokers_own(socket: "zmq.Socket[bytes]", directory: Path) -> None:
    """A peer that knows of the broker's public key only, and shows it as its own."""
    known = stage_keys(directory, "detect")
    use(socket, StageKeys("broker", known.broker, known.broker, broker_keys(directory).secret))


STRANGERS = {
    # Either end may notice first that they do not speak the same, and leave.
    null: "it uses no key|it left, or fell silent, without showing a key",
    plain: "it uses no key|it left, or fell silent, without showing a key",
    unknown_key: "its key is not in the list",
    wrong_server: "it has another broker's public key",
    stolen_public_key: "it has another broker's public key, or a damaged one|its key is not in the list",
    brokers_own: "its key is not in the list",
}


def turn(broker: BrokerChannel, log: pytest.LogCaptureFixture, said: str) -> list[object]:
    """Let the broker work until it has said so; return what it received."""
    received: list[object] = []
    deadline_s = time.monotonic() + WAIT_S
    while not re.search(said, log.text):
        assert time.monotonic() < deadline_s, f"{said!r} was never said:\n{log.text}"
        received += broker.receive(20)
    return received


def test_a_listed_key_comes_in(
    broker: BrokerChannel, addresses: tuple[str, str], directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    channel = StageChannel(addresses[0], "detect-1", LIMIT, stage_keys(directory, "detect"))
    channel.send(Heartbeat())
    items: list[object] = []
    while not items:
        items += broker.receive(50)
    (item,) = items
    assert isinstance(item, Received) and (item.key, item.message) == ("detect", Heartbeat())
    assert caplog.text == ""
    channel.close(linger_ms=0)


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.__name__)
def test_a_stranger_gets_no_work_in_or_out(
    broker: BrokerChannel,
    addresses: tuple[str, str],
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    stranger: Callable[..., None],
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.setsockopt(zmq.IDENTITY, b"detect-1-0")
        stranger(dealer, directory)
        dealer.connect(addresses[0])
        dealer.send_multipart(encode(Heartbeat()))
        received = turn(broker, caplog, f"refused a peer at .*: ({STRANGERS[stranger]})")
        for _ in range(5):
            received += broker.receive(20)
            assert not broker.send(b"detect-1-0", RequestHello())
        assert received == []
        assert not dealer.poll(100)


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.__name__)
def test_a_stranger_reads_no_results(
    broker: BrokerChannel,
    addresses: tuple[str, str],
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    stranger: Callable[..., None],
) -> None:
    """While one who may subscribes reads them."""
    with (
        zmq.Context() as context,
        context.socket(zmq.SUB) as spy,
        context.socket(zmq.SUB) as friend,
    ):
        stranger(spy, directory)
        use(friend, stage_keys(directory, "subscriber"))
        for subscriber in (spy, friend):
            subscriber.linger = 0
            subscriber.subscribe(b"")
            subscriber.connect(addresses[1])
        turn(broker, caplog, f"refused a peer at .*: ({STRANGERS[stranger]})")
        for _ in range(500):
            broker.publish(RECORD)
            list(broker.receive(10))
            if friend.poll(0):
                break
        assert friend.recv(zmq.NOBLOCK) == RECORD
        assert not spy.poll(100)


@pytest.mark.parametrize(("name", "at", "what"), [("subscriber", 0, "work"), ("detect", 1, "results")])
def test_a_key_opens_what_it_is_named_for(
    broker: BrokerChannel,
    addresses: tuple[str, str],
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    at: int,
    what: str,
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER if at == 0 else zmq.SUB) as peer:
        peer.linger = 0
        use(peer, stage_keys(directory, name))
        peer.connect(addresses[at])
        peer.send_multipart(encode(Heartbeat())) if at == 0 else peer.subscribe(b"")
        received = turn(broker, caplog, f"the key of {name} is not for the {what}; public key")
        broker.publish(RECORD)
        assert received + list(broker.receive(50)) == []
        assert not peer.poll(100)


def test_a_removed_key_is_refused_from_the_next_start(tmp_path: Path, addresses: tuple[str, str]) -> None:
    """The stage that had taken part ends with one clear line, as something that fails on the way."""
    keys = tmp_path / "keys"
    make_keys(keys, ROLES, ["detect-attic"])
    (keys / "detect.secret").unlink()
    mine = stage_keys(keys, "detect")
    stage = StageChannel(addresses[0], "detect-1", LIMIT, mine)
    first = BrokerChannel(*addresses, LIMIT, broker_keys(keys))
    stage.send(Heartbeat())
    while not list(first.receive(50)):
        stage.receive(0)
    (keys / "detect-attic.public").unlink()
    stage.send(Heartbeat())
    while not list(first.receive(50)):  # it read the list when it started
        stage.receive(0)
    first.close(linger_ms=0)

    second = BrokerChannel(*addresses, LIMIT, broker_keys(keys))
    stage.send(Heartbeat())
    received: list[object] = []
    with pytest.raises(LateError, match=r"refuses the key 'detect-attic': detect-attic.public must lie in"):
        for _ in range(500):
            received += second.receive(10)
            stage.receive(10)
    assert received == []
    stage.close(linger_ms=0)
    second.close(linger_ms=0)


def test_a_stage_that_was_never_let_in_is_reported_at_once(
    broker: BrokerChannel, addresses: tuple[str, str], directory: Path
) -> None:
    public, secret = zmq.curve_keypair()
    known = stage_keys(directory, "detect")
    stage = StageChannel(addresses[0], "d", LIMIT, StageKeys("detect-x", known.broker, public, secret))
    with pytest.raises(UserError, match="refuses the key 'detect-x'") as raised:
        for _ in range(500):
            list(broker.receive(10))
            stage.receive(10)
    assert not isinstance(raised.value, LateError)
    stage.close(linger_ms=0)


def test_a_stage_that_meets_somebody_else_goes_on_trying(
    addresses: tuple[str, str], directory: Path, tmp_path: Path
) -> None:
    """First a program without keys, then a broker of others, at last its own: only that is sent anything."""
    stage = StageChannel(addresses[0], "detect-1", LIMIT, stage_keys(directory, "detect"))
    with zmq.Context() as context, context.socket(zmq.ROUTER) as somebody:
        somebody.linger = 0
        somebody.bind(addresses[0])
        stage.send(Heartbeat())
        for _ in range(100):
            stage.receive(50)
            if stage.failed_handshakes >= 2:
                break
        assert stage.failed_handshakes >= 2
        assert not somebody.poll(0)
    make_keys(tmp_path / "others", ROLES)
    other = BrokerChannel(*addresses, LIMIT, broker_keys(tmp_path / "others"))
    known = stage.failed_handshakes
    for _ in range(100):
        stage.send(Heartbeat())
        stage.receive(50)
        assert list(other.receive(10)) == []
        if stage.failed_handshakes >= known + 3:
            break
    assert stage.failed_handshakes >= known + 3
    other.close(linger_ms=0)

    own = BrokerChannel(*addresses, LIMIT, broker_keys(directory))
    items: list[object] = []
    for _ in range(200):
        stage.send(Heartbeat())
        stage.receive(20)
        items += own.receive(20)
        if items:
            break
    assert items
    assert stage.failed_handshakes == 0
    stage.close(linger_ms=0)
    own.close(linger_ms=0)


def test_a_flood_does_not_flood_the_log_and_holds_nobody_up(
    broker: BrokerChannel,
    addresses: tuple[str, str],
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.wire.authenticator.LINES_S", 2.0)
    channel = StageChannel(addresses[0], "detect-1", LIMIT, stage_keys(directory, "detect"))
    with zmq.Context() as context:
        strangers = [context.socket(zmq.DEALER) for _ in range(200)]
        for number, stranger in enumerate(strangers):
            stranger.linger = 0
            unknown_key(stranger, directory) if number % 2 else None
            stranger.connect(addresses[0])
            stranger.send(b"hello", zmq.NOBLOCK)
        channel.send(Heartbeat())
        items: list[object] = []
        deadline_s = time.monotonic() + 2 * WAIT_S
        while not items and time.monotonic() < deadline_s:
            items += broker.receive(20)
        assert [type(item) for item in items] == [Received]
        turn(broker, caplog, r"refused \d+ more in the last 2 s")
        for stranger in strangers:
            stranger.close(0)
    channel.close(linger_ms=0)
    refusals = [record for record in caplog.records if "refused a peer" in record.message]
    assert len(refusals) <= 3 * 4 * LINES


def test_refusals_are_logged_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("pipeline.wire.authenticator.time.monotonic", lambda: now_s[0])
    refusals = Refusals()
    for _ in range(LINES + 7):
        refusals.add("10.0.0.1", "x")
    refusals.add("10.0.0.2", "y", "; z")  # another reason is not lost among the many
    refusals.log_rest()
    noisy, other = "refused a peer at 10.0.0.1: x", "refused a peer at 10.0.0.2: y; z"
    assert [record.message for record in caplog.records] == [noisy] * LINES + [other]
    now_s[0] += 11
    refusals.log_rest()
    refusals.add("10.0.0.1", "x")
    assert [record.message for record in caplog.records[LINES + 1 :]] == [
        "refused 7 more in the last 10 s",
        noisy,
    ]


def test_no_secret_is_logged(
    broker: BrokerChannel, addresses: tuple[str, str], directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    public, secret = zmq.curve_keypair()
    known = stage_keys(directory, "detect")
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        use(dealer, StageKeys("mine", known.broker, public, secret))
        dealer.connect(addresses[0])
        turn(broker, caplog, f"its key is not in the list; public key {re.escape(public.decode())}")
    for each in (secret, known.secret, broker_keys(directory).secret):
        assert each.decode() not in caplog.text


@pytest.mark.long  # the handshake has its time
def test_if_nobody_answers_for_the_door_nobody_comes_in(
    broker: BrokerChannel, addresses: tuple[str, str], directory: Path
) -> None:
    assert broker._authenticator is not None
    broker._poller.unregister(broker._authenticator._authenticator.zap_socket)
    broker._authenticator.handle_handshakes = lambda: None  # type: ignore[method-assign]
    broker._authenticator._authenticator.stop()
    stage = StageChannel(addresses[0], "detect-1", LIMIT, stage_keys(directory, "detect"))
    stage.send(Heartbeat())
    received: list[object] = []
    while stage.failed_handshakes < 1:
        stage.receive(20)
        received += broker.receive(20)
    assert received == []
    stage.close(linger_ms=0)
