"""Machines of the test's own: network namespaces with an address each, joined by a bridge in one more."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

NETWORK: Final = "10.213.77"
LIMIT_S: Final = 20.0


class Host(NamedTuple):
    """A machine. Its processes are started with the words `inside` before their command."""

    name: str
    address: str
    ahead_s: int = 0  # its monotonic clock against this machine's

    @property
    def inside(self) -> list[str]:
        clock = ["unshare", "--time", "--monotonic", str(self.ahead_s), "--fork"] if self.ahead_s else []
        return ["ip", "netns", "exec", self.name, *clock]

    def received(self) -> int:
        """Bytes that have come in over the network."""
        shown = _ip("-n", self.name, "-j", "-s", "link", "show", "dev", "eth0")
        found: list[dict[str, Any]] = json.loads(shown)
        return int(found[0]["stats64"]["rx"]["bytes"])


def why_not(*, clocks: bool = False) -> str:
    """Why machines can't be made here; empty if they can. `clocks`: with clocks of their own."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no `ip` (iproute2)"
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
def made(count: int) -> Iterator[list[Host]]:
    """Make so many machines; they are gone at the end."""
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
            _ip("-n", name, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield [Host(name, f"{NETWORK}.{number}") for number, name in enumerate(names, start=1)]
    finally:
        for name in added:
            _ip("netns", "delete", name)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=LIMIT_S)
    return done.stdout
