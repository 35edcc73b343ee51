"""Which addresses are accepted, and the defaults of a run.

The directory of an `ipc` socket protects it; tcp always needs keys. Without a directory of keys in the
settings, only the loopback is accepted, with keys that the run makes.
"""

import errno
import ipaddress
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.common.errors import UserError
from pipeline.common.files import COMMAND


def is_remote(address: str) -> bool:
    """Tell whether a broker's address, `ipc://…` or `tcp://host:port`, belongs to another machine.

    A socket can be bound to the addresses of this machine only. A name that can't be resolved (yet) is taken
    for another machine's.
    """
    if not is_tcp(address):
        return False
    host = _parts(address)[0].strip("[]")
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return True
    return not any(_is_here(family, place) for family, *_, place in found)


def _is_here(family: int, place: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(place)
        except OSError:
            return False
    return True


IPC_PATH_MAX: Final = 107 if sys.platform == "linux" else 103
"""Bytes in the path of a Unix socket: `sun_path` without its final zero."""

_WILDCARDS: Final = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Addresses of all interfaces, and how to connect to them on the same machine."""

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


def check_address(address: str, name: str = "broker.address", keyed: bool = False) -> str:
    """Return the address as ZeroMQ takes it: `localhost` becomes 127.0.0.1.

    name: the setting, for errors. keyed: whether the settings name a directory of keys. Raises UserError
    unless the address is `ipc` or tcp, and for tcp beyond the loopback without keys.
    """
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "ipc":
        return _check_ipc(address, rest, name)
    if separator and scheme == "tcp":
        return _check_tcp(address, rest, name, keyed)
    raise UserError(f"{name}: expected ipc://PATH or tcp://127.0.0.1:PORT, found {address!r}")


def is_tcp(address: str) -> bool:
    return address.startswith("tcp://")


def dial_address(address: str) -> str:
    """Return the address to connect to, on the broker's own machine, for one that the broker binds."""
    if not is_tcp(address):
        return address
    host, port = _parts(address)
    return f"tcp://{_WILDCARDS.get(host, host)}:{port}"


def check_bindable(address: str, name: str = "broker.address") -> None:
    """Raise UserError unless the broker may bind the address: tcp by number, `ipc` in our own directory.

    In a directory that others can enter, they could connect or take the broker's place.
    """
    if is_tcp(address):
        if not _is_number(_parts(address)[0]):
            raise UserError(
                f"{name}: the broker binds an address of its own machine, by number, or tcp://0.0.0.0:PORT "
                f"for all of them; found {address!r}"
            )
        return
    directory = Path(address.removeprefix("ipc://")).resolve().parent
    if not directory.is_dir():
        raise UserError(f"{name}: no directory {directory}; make it with: mkdir -m 700 {directory}")
    if not is_ours(directory) or stat.S_IMODE(directory.stat().st_mode) & 0o077:
        raise UserError(
            f"{name}: {directory} must be yours and closed to others: mkdir -m 700 makes such a directory"
        )


def check_dialable(address: str) -> None:
    """Raise UserError for an address that stands for any machine."""
    if is_tcp(address) and _parts(address)[0] in _WILDCARDS:
        raise UserError(f"broker.address: {address!r} names no machine; name the one that the broker is on")


def check_free(address: str, name: str = "broker.address") -> None:
    """Raise UserError if a program answers at `address` already, or it can't be bound.

    It is checked before the stages start, which would otherwise connect to that program.
    """
    try:
        if is_tcp(address):
            _bind_once(address)
        else:
            _check_silent(address.removeprefix("ipc://"))
    except OSError as error:
        raise UserError(
            f"{name}: {address} can't be bound: {error.strerror}; end the program that uses it, or set "
            "broker.address and broker.publish to others"
        ) from error


def _check_silent(path: str) -> None:
    """Raise OSError if a program listens on the socket file `path`; a stale file does not matter."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError, ConnectionRefusedError):
        probe.connect(path)
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _bind_once(address: str) -> None:
    """Raise OSError if a tcp address can't be bound."""
    host, port = _parts(address)
    host = "" if host == "*" else host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if sys.platform != "win32":  # where it would allow to bind a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, int(port)))


def publish_address(publish: str, address: str, *, named: bool) -> str:
    """Return where results are published: at `publish` or, if that is empty, beside the broker's `address`.

    named: whether the user gave that address.
    """
    if publish:
        return publish
    if is_tcp(address):
        host, port = _parts(address)
        beside = f"tcp://{host}:{int(port) + 1}"
    else:
        # The run's own directory has one broker; a directory that the user named may have several.
        beside = f"{address}.results" if named else f"{address.rpartition('/')[0]}/results"
    return check_address(beside, "broker.publish", keyed=True)


def broker_address(address: str, directory: Path) -> str:
    """Return the address that the broker binds: `address` or, if it is empty, one in the run's directory."""
    if address:
        return address
    if has_ipc():
        return f"ipc://{directory}/work"
    return f"tcp://127.0.0.1:{free_port()}"


def has_ipc() -> bool:
    return hasattr(socket, "AF_UNIX") and sys.platform != "win32"


def _check_ipc(address: str, path: str, name: str) -> str:
    if not path or path.endswith("/") or path[0] in "@*":  # the abstract namespace has no permissions
        raise UserError(f"{name}: expected the path of a socket file after ipc://, found {address!r}")
    if not has_ipc():
        raise UserError(f"{name}: this system has no ipc; use tcp://127.0.0.1:PORT instead of {address!r}")
    length = len(os.fsencode(path))
    if length > IPC_PATH_MAX:
        raise UserError(
            f"{name}: the path of a socket has at most {IPC_PATH_MAX} bytes, {address!r} has {length}"
        )
    return address


def _check_tcp(address: str, place: str, name: str, keyed: bool) -> str:
    host, separator, port = place.rpartition(":")
    if not separator or not host or "]" in port:
        raise UserError(f"{name}: the port is missing: expected tcp://127.0.0.1:PORT, found {address!r}")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65_535):
        raise UserError(f"{name}: expected a port from 1 to 65535, found {port!r} in {address!r}")
    if host == "localhost":  # by number, so that no resolver is needed
        return f"tcp://127.0.0.1:{int(port)}"
    number = _number(host)
    if not keyed and not (number and number.is_loopback):
        raise UserError(
            f"{name}: {address!r} can be reached from other machines: that needs keys; make them with: "
            f"{COMMAND} keys DIR, then give: --set security.keys=DIR"
        )
    if not (_is_number(host) or _HOST.fullmatch(host)):
        raise UserError(f"{name}: expected a host's name or number, found {host!r} in {address!r}")
    return f"tcp://{host}:{int(port)}"


def _parts(address: str) -> tuple[str, str]:
    """Return host, in brackets if it is IPv6, and port of a tcp address."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, port


def _is_number(host: str) -> bool:
    """Whether a host is given by number, or is `*`, all addresses of this machine."""
    return host == "*" or _number(host) is not None


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        number = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return None
    return number if (number.version == 6) == bracketed else None


def is_ours(directory: Path) -> bool:
    """Whether a directory exists and belongs to this user; on Windows, whether it exists."""
    if not directory.is_dir():
        return False
    return not hasattr(os, "getuid") or directory.stat().st_uid == os.getuid()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of an address of this machine that is free now and has a free one beside it."""
    for _ in range(20):
        with socket.socket() as first, socket.socket() as second:
            first.bind((host, 0))
            port: int = first.getsockname()[1]
            try:
                second.bind((host, port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise UserError(f"no two free ports side by side on {host}; give broker.address an address")
