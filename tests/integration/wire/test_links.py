"""Which brokers are on another machine."""

import socket

import pytest

from pipeline.wire.addresses import is_remote


@pytest.mark.parametrize(
    "address",
    ["ipc:///run/work", "tcp://127.0.0.1:5555", "tcp://127.3.4.5:5555", "tcp://0.0.0.0:5555"],
)
def test_this_machine(address: str) -> None:
    assert not is_remote(address)


def test_an_address_of_a_network_card_is_this_machine_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: this chooses the way out
        except OSError:
            pytest.skip("no network but the loopback")
        own = probe.getsockname()[0]
    assert not is_remote(f"tcp://{own}:5555")


def test_another_machine() -> None:
    assert is_remote("tcp://192.0.2.1:5555")  # kept for documentation: nobody's (RFC 5737)
    assert is_remote("tcp://[2001:db8::1]:5555")  # likewise (RFC 3849)


def test_a_name_that_is_not_known_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert is_remote("tcp://camera-host:5555")
