"""A connection that breaks while both ends live: what was on its way is asked for again."""

import time
from pathlib import Path

import msgspec

from pipeline.wire.addresses import free_port
from pipeline.wire.keys import broker_keys, make_keys
from pipeline.wire.messages import Heartbeat, Hello
from pipeline.wire.session import Session
from pipeline.wire.sockets import BrokerChannel, Received
from stages.stage import ROLES
from tests.support.broker_world import make_assignment, make_hello
from tests.support.proxy import Proxy

LIMIT_S = 60.0


def test_a_stage_says_hello_again_after_its_connection_broke(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", ROLES)
    port = free_port()
    addresses = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"
    broker = BrokerChannel(*addresses, 1_000_000, broker_keys(tmp_path / "keys"))
    with Proxy(port) as proxy:
        assignment = make_assignment("detect", "detect-1", f"tcp://127.0.0.1:{proxy.port}")
        assignment = msgspec.structs.replace(assignment, keys=str(tmp_path / "keys"))
        with Session(assignment, lambda: make_hello("detect", "detect-1", credits=1)) as session:
            heard: list[Received] = []

            def until(kind: type, count: int) -> None:
                deadline_s = time.monotonic() + LIMIT_S
                while sum(isinstance(item.message, kind) for item in heard) < count:
                    assert time.monotonic() < deadline_s, heard
                    heard.extend(item for item in broker.receive(5) if isinstance(item, Received))
                    session.receive(5)

            until(Hello, 1)
            until(Heartbeat, 4)
            assert sum(isinstance(item.message, Hello) for item in heard) == 1
            proxy.cut()
            until(Hello, 2)
            assert len({item.identity for item in heard}) == 1
    broker.close(linger_ms=0)
