"""Which addresses are accepted, and where those of a run lie."""

import socket
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.wire.addresses import (
    IPC_PATH_MAX,
    broker_address,
    check_address,
    check_bindable,
    check_dialable,
    check_free,
    dial_address,
    publish_address,
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ipc:///run/user/1/work", "ipc:///run/user/1/work"),
        ("ipc://work", "ipc://work"),
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.1.2.3:1", "tcp://127.1.2.3:1"),
        ("tcp://localhost:65535", "tcp://127.0.0.1:65535"),
        ("tcp://[::1]:5555", "tcp://[::1]:5555"),
        ("ipc:///" + "x" * (IPC_PATH_MAX - 1), "ipc:///" + "x" * (IPC_PATH_MAX - 1)),
    ],
)
def test_what_only_this_machine_reaches_is_accepted(address: str, expected: str) -> None:
    assert check_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "tcp://0.0.0.0:5555",
        "tcp://*:5555",
        "tcp://[::]:5555",
        "tcp://[::ffff:10.0.0.1]:5555",
        "tcp://192.168.1.4:5555",
        "tcp://eth0:5555",
        "tcp://localhost.example.org:5555",
        "tcp://127.0.0.1.example.org:5555",
        "tcp://127.0.0.1;10.0.0.1:5555",
        "tcp://10.0.0.1:0;127.0.0.1:5555",
    ],
)
def test_what_others_reach_needs_keys(address: str) -> None:
    mend = r"needs keys; make them with: python run.py keys DIR, then give: --set security.keys=DIR"
    with pytest.raises(UserError, match=mend):
        check_address(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://[::]:5555", "tcp://10.0.0.1:1", "tcp://[fd00::1]:5555"],
)
def test_with_keys_the_broker_binds_what_others_reach(address: str) -> None:
    assert check_address(address, keyed=True) == address
    check_bindable(address)


@pytest.mark.parametrize("address", ["tcp://attic:5555", "tcp://attic.example.org:5555", "tcp://eth0:5555"])
def test_a_name_is_dialed_not_bound(address: str) -> None:
    assert check_address(address, keyed=True) == address
    check_dialable(address)
    with pytest.raises(UserError, match="binds an address of its own machine, by number"):
        check_bindable(address)


@pytest.mark.parametrize("host", ["10.0.0.1;127.0.0.1", "a b", "-x", "[10.0.0.1]", "fd00::1", "[attic]"])
def test_what_is_no_host_is_refused_with_keys_too(host: str) -> None:
    with pytest.raises(UserError, match="expected a host's name or number"):
        check_address(f"tcp://{host}:5555", keyed=True)


def test_on_the_brokers_machine_all_interfaces_are_dialed_by_the_loopback() -> None:
    assert dial_address("tcp://0.0.0.0:5555") == "tcp://127.0.0.1:5555"
    assert dial_address("tcp://*:5555") == "tcp://127.0.0.1:5555"
    assert dial_address("tcp://[::]:5555") == "tcp://[::1]:5555"
    for address in ("tcp://10.0.0.1:5555", "tcp://attic:5555", "ipc:///run/me/work"):
        assert dial_address(address) == address
    with pytest.raises(UserError, match="names no machine"):
        check_dialable("tcp://0.0.0.0:5555")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1", "the port is missing"),
        ("tcp://[::1]", "the port is missing"),
        ("tcp://:5555", "the port is missing|needs keys"),
        ("tcp://127.0.0.1:", "from 1 to 65535, found ''"),
        ("tcp://127.0.0.1:0", "from 1 to 65535, found '0'"),
        ("tcp://127.0.0.1:65536", "from 1 to 65535, found '65536'"),
        ("tcp://127.0.0.1:*", r"from 1 to 65535, found '\*'"),
        ("tcp://127.0.0.1:５５", "from 1 to 65535"),
        ("127.0.0.1:5555", "expected ipc://PATH or tcp://127.0.0.1:PORT, found '127.0.0.1:5555'"),
        ("udp://127.0.0.1:5555", "expected ipc://PATH or tcp"),
        ("", "expected ipc://PATH or tcp"),
        ("ipc://", "expected the path of a socket"),
        ("ipc:///tmp/", "expected the path of a socket"),
        ("ipc://@everyone", "expected the path of a socket file"),
        ("ipc://*", "expected the path of a socket file"),
        ("ipc:///" + "é" * (IPC_PATH_MAX // 2 + 1), f"at most {IPC_PATH_MAX} bytes"),
    ],
)
def test_what_is_no_address_is_refused(address: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^broker.publish: .*({message})"):
        check_address(address, "broker.publish")


def test_results_are_published_beside_the_address() -> None:
    assert publish_address("", "ipc:///run/me/work", named=False) == "ipc:///run/me/results"
    assert publish_address("", "tcp://127.0.0.1:5555", named=False) == "tcp://127.0.0.1:5556"
    assert publish_address("", "tcp://[::1]:5555", named=False) == "tcp://[::1]:5556"
    assert publish_address("", "ipc:///home/me/a", named=True) == "ipc:///home/me/a.results"
    assert publish_address("tcp://127.0.0.1:9", "ipc:///run/me/work", named=False) == "tcp://127.0.0.1:9"
    with pytest.raises(UserError, match=r"broker.publish: expected a port from 1 to 65535, found '65536'"):
        publish_address("", "tcp://127.0.0.1:65535", named=False)


def test_where_there_is_no_ipc_loopback_tcp_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.wire.addresses.has_ipc", lambda: False)
    address = broker_address("", tmp_path)
    for each in (address, publish_address("", address, named=False)):
        with socket.socket() as free:
            free.bind(("127.0.0.1", int(check_address(each).rpartition(":")[2])))
    with pytest.raises(UserError, match="no ipc; use tcp"):
        check_address("ipc:///x/y")


def test_a_directory_that_others_enter_is_no_place_to_bind(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(UserError, match=f"{tmp_path} must be yours and closed to others"):
        check_bindable(f"ipc://{tmp_path}/work")
    with pytest.raises(UserError, match=r"no directory .* mkdir -m 700"):
        check_bindable(f"ipc://{tmp_path}/none/work")
    tmp_path.chmod(0o700)
    check_bindable(f"ipc://{tmp_path}/work")


def test_an_address_that_nobody_uses_is_free(tmp_path: Path) -> None:
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    for address in (f"ipc://{tmp_path}/work", f"ipc://{left}", f"tcp://127.0.0.1:{port}"):
        check_free(address)


def test_an_address_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other, socket.socket(socket.AF_UNIX) as local:
        other.bind(("127.0.0.1", 0))
        other.listen()
        local.bind(str(tmp_path / "work"))
        local.listen()
        for address in (f"tcp://127.0.0.1:{other.getsockname()[1]}", f"ipc://{tmp_path}/work"):
            with pytest.raises(UserError, match=f"publish: {address} can't be bound: Address already in use"):
                check_free(address, "broker.publish")


def test_a_port_in_use_is_seen_on_all_interfaces() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for host in ("0.0.0.0", "*"):
            with pytest.raises(UserError, match="in use"):
                check_free(f"tcp://{host}:{port}")


def test_an_address_that_no_interface_has_is_reported() -> None:
    with pytest.raises(UserError, match="can't be bound"):
        check_free("tcp://192.0.2.1:5555")
