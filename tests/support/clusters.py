"""A Ray cluster whose machines are network namespaces of the test's own."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.hosts import Host
from tests.support.runs import processes_of

LIMIT_S = 120.0
PORT = 6379
ENVIRONMENT = {
    # As docs/machines.md has it: a lost machine is noticed after three seconds.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
"""Of all its machines, and of a run on it."""


def why_not() -> str:
    """Why there can be no cluster here; empty if there can."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed (requirements-ray.txt)"
    return ""


class Node:
    """A machine of the cluster: `ray start` in a namespace. `place` is the TMPDIR of all its processes."""

    def __init__(self, host: Host, head: str, cores: int, resources: str = "{}") -> None:
        """`head`: the address of the cluster's head; empty: this is it."""
        self.host = host
        self.place = Path(tempfile.mkdtemp(prefix="n-", dir="/tmp"))
        self._head = head
        self._cores = cores
        self._resources = resources
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes part."""
        joins = (
            ["--address", self._head]
            if self._head
            else ["--head", f"--port={PORT}", "--include-dashboard=false"]
        )
        self._log = self.place / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *self.host.inside,
                    str(Path(sys.executable).parent / "ray"),
                    *("start", "--block", "--disable-usage-stats", f"--node-ip-address={self.host.address}"),
                    *(f"--num-cpus={self._cores}", f"--resources={self._resources}"),
                    "--object-store-memory=80000000",
                    *joins,
                ],
                env=os.environ | ENVIRONMENT | {"TMPDIR": str(self.place), "RAY_TMPDIR": str(self.place)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + LIMIT_S
        while "Ray runtime started" not in self._log.read_text(encoding="utf-8"):
            assert self.process.poll() is None, self._log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline_s, self._log.read_text(encoding="utf-8")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)

    def children(self, name: str = "") -> list[int]:
        """Return the pids of the pipeline's processes here, or of those called `name`."""
        found = []
        for pid, command in processes_of(self.place).items():
            if "pipeline.supervisor.child_main" in command and command[-1].startswith(name):
                found.append(pid)
        return found

    def wait_until_empty(self) -> None:
        """Wait until none of the pipeline's processes is left here."""
        deadline_s = time.monotonic() + LIMIT_S
        while self.children():
            assert time.monotonic() < deadline_s, "processes are left behind"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)

    def kill(self) -> None:
        """Take its power away: everything of it is killed at once."""
        for pid in [*processes_of(self.place), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)

    def remove(self) -> None:
        while processes_of(self.place) or self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.place, ignore_errors=True)


@contextmanager
def made_cluster(hosts: list[Host], cores: int) -> Iterator[list[Node]]:
    """Make a cluster with its head on the first of `hosts`; the others have so many cores each."""
    nodes: list[Node] = []
    try:
        for host in hosts:
            head = f"{hosts[0].address}:{PORT}" if nodes else ""
            nodes.append(Node(host, head, cores if nodes else 0))
        yield nodes
    finally:
        for node in reversed(nodes):
            node.remove()
