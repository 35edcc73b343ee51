"""A stage's conversation with a broker whose clock is another: real sockets, a real broker."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.broker.broker import Broker
from pipeline.wire import session as session_module
from pipeline.wire.messages import Grant, Heartbeat, Hello, Message, StatusReport
from pipeline.wire.session import FIRST_ANSWERS, Session
from pipeline.wire.sockets import BrokerChannel, Received
from tests.support.broker_world import make_assignment, make_broker, make_hello, make_source

S = 1_000_000_000
LIMIT_S = 60.0


class World:
    """A broker with a clock of its own, in step with the test: `until` lets both sides speak."""

    def __init__(self, place: Path) -> None:
        self.address = f"ipc://{place}/work"
        self._publish = f"ipc://{place}/results"
        self.heard: list[Message] = []
        self.ahead_ns = 0
        self.start(0)

    def start(self, ahead_ns: int) -> None:
        """A broker, on a machine whose clock is so far ahead of this one."""
        self.channel = BrokerChannel(self.address, self._publish, 1_000_000)
        self.broker: Broker = make_broker()
        self.ahead_ns = ahead_ns
        self.heard.clear()

    def stop(self) -> None:
        self.channel.close(linger_ms=0)

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.ahead_ns

    def until(self, session: Session, what: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while not what():
            assert time.monotonic() < deadline_s, f"waited too long; heard {self.heard}"
            for item in self.channel.receive(5):
                assert isinstance(item, Received)
                self.heard.append(item.message)
                self.broker.receive(item.identity, item.message, item.buffers, self.now_ns())
            for outgoing in self.broker.drain()[0]:
                self.channel.send(outgoing.identity, outgoing.message, outgoing.buffers)
            session.receive(5)

    def hello(self) -> Hello | None:
        return next((message for message in self.heard if isinstance(message, Hello)), None)

    def asked_before_hello(self) -> int:
        """How often the time was asked for."""
        before = self.heard[: self.heard.index(self.hello())]  # type: ignore[arg-type]
        return sum(isinstance(message, Heartbeat) and message.sent_ns > 0 for message in before)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.stop()


def open_session(world: World) -> Session:
    assignment = make_assignment("capture", "capture-1", world.address)
    hello = make_hello("capture", "capture-1", source=make_source())
    return Session(assignment, lambda: hello)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "is_remote", lambda address: True)


def test_on_the_brokers_own_machine_hello_comes_first_and_clocks_are_one(world: World) -> None:
    world.ahead_ns = 1000 * S
    with open_session(world) as session:
        world.until(session, lambda: bool(world.heard))
        hello = world.heard[0]
        assert isinstance(hello, Hello) and not hello.remote
        world.until(session, lambda: any(isinstance(m, Heartbeat) for m in world.heard))
        assert all(m == Heartbeat() for m in world.heard if isinstance(m, Heartbeat))
        assert session.offset_ns == 0


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("ahead_ns", [1000 * S, -1000 * S])
def test_elsewhere_the_clock_is_known_before_hello(world: World, ahead_ns: int) -> None:
    world.ahead_ns = ahead_ns if time.monotonic_ns() + ahead_ns > 0 else -ahead_ns
    with open_session(world) as session:
        world.until(session, lambda: world.hello() is not None)
        assert world.asked_before_hello() >= FIRST_ANSWERS
        hello = world.hello()
        assert hello is not None and hello.remote
        assert abs(session.offset_ns - world.ahead_ns) < S
        world.until(session, lambda: isinstance(world.heard[-1], Heartbeat))
        heartbeat = world.heard[-1]
        assert isinstance(heartbeat, Heartbeat)
        assert abs(heartbeat.offset_ns - world.ahead_ns) <= heartbeat.error_ns + 1 < S


@pytest.mark.usefixtures("far")
def test_a_new_broker_on_another_clock(world: World) -> None:
    """What the old one's clock said counts no more before hello is said to the new one."""
    world.ahead_ns = 1000 * S
    with open_session(world) as session:
        world.until(session, lambda: world.hello() is not None)
        world.stop()
        world.start(5 * S)
        world.until(session, lambda: world.hello() is not None)
        assert world.asked_before_hello() >= FIRST_ANSWERS
        assert abs(session.offset_ns - 5 * S) < S


@pytest.mark.usefixtures("far")
def test_the_broker_reports_how_the_clock_stands(world: World) -> None:
    world.ahead_ns = 1000 * S
    with open_session(world) as session:
        world.broker.receive(b"supervisor", make_hello("supervisor", "supervisor"), [], world.now_ns())
        world.until(session, lambda: world.hello() is not None)
        world.until(session, lambda: isinstance(world.heard[-1], Heartbeat))
        world.broker.tick(world.now_ns())
        reports = [o.message for o in world.broker.drain()[0] if isinstance(o.message, StatusReport)]
        (peer,) = reports[-1].peers
        assert (peer.name, peer.remote) == (f"capture-1@{socket.gethostname().partition('.')[0]}", True)
        assert abs(peer.offset_ns - 1000 * S) <= peer.error_ns + 1 < S
        assert Grant not in map(type, world.heard)
