"""Machines of the test's own: network namespaces with an address each, joined by a bridge in one more."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

NETWORK: Final = "10.213.77"
LIMIT_S: Final = 20.0


class Host(NamedTuple):
    """A machine. Its processes are started with the words `inside` before their command."""

    name: str
    address: str
    ahead_s: int = 0  # its monotonic clock against this machine's
    switch: str = ""  # the namespace of the bridge, and where its cable is plugged in there
    port: str = ""

    @property
    def inside(self) -> list[str]:
        clock = ["unshare", "--time", "--monotonic", str(self.ahead_s), "--fork"] if self.ahead_s else []
        return ["ip", "netns", "exec", self.name, *clock]

    def received(self) -> int:
        """Bytes that have come in over the network."""
        shown = _ip("-n", self.name, "-j", "-s", "link", "show", "dev", "eth0")
        found: list[dict[str, Any]] = json.loads(shown)
        return int(found[0]["stats64"]["rx"]["bytes"])

    def cut(self) -> None:
        """Pull its cable out; nobody is told."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def join(self) -> None:
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def narrow(self, rate: str) -> None:
        """Give it a slow line, in both directions."""
        for name, device in ((self.name, "eth0"), (self.switch, self.port)):
            shape = f"tc -n {name} qdisc add dev {device} root tbf rate {rate} burst 32kbit latency 200ms"
            subprocess.run(shape.split(), check=True, capture_output=True, timeout=LIMIT_S)


def why_not(*, clocks: bool = False) -> str:
    """Why machines can't be made here; empty if they can. `clocks`: with clocks of their own."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "no `ip` or `tc` (iproute2)"
    try:
        with made(1):
            pass
        if clocks:
            command = ["unshare", "--time", "--monotonic", "1000", "--fork", "true"]
            subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"namespaces are not permitted here: {error}"
    return ""


@contextmanager
def made(count: int, network: str = NETWORK) -> Iterator[list[Host]]:
    """Make so many machines; they are gone at the end."""
    _remove_leftovers()
    tag = f"e{os.getpid()}"
    names = [f"{tag}-{number}" for number in range(1, count + 1)]
    switch = f"{tag}-s"
    added: list[str] = []
    try:
        for name in (switch, *names):
            _ip("netns", "add", name)
            added.append(name)
        _ip("-n", switch, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge0", "up")
        for number, name in enumerate(names, start=1):
            port = f"port{number}"
            _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", switch)
            _ip("-n", switch, "link", "set", port, "master", "bridge0", "up")
            _ip("-n", name, "address", "add", f"{network}.{number}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield [
            Host(name, f"{network}.{number}", 0, switch, f"port{number}")
            for number, name in enumerate(names, start=1)
        ]
    finally:
        for name in added:
            _ip("netns", "delete", name)


def _remove_leftovers() -> None:
    """Remove what tests have left behind that were killed."""
    for path in Path("/run/netns").glob("e[0-9]*-*"):
        if not Path(f"/proc/{path.name[1:].partition('-')[0]}").exists():
            _ip("netns", "delete", path.name)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=LIMIT_S)
    return done.stdout
