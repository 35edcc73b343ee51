"""What the processes of a run hold, from moment to moment."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from tests.support.runs import Run, processes_of


class Sample(NamedTuple):
    """One process at one moment."""

    time_s: float  # since the first sample
    process: str  # "parent", or the child's name
    pid: int
    rss_bytes: int
    files: int  # open file descriptors
    threads: int


class Latency(NamedTuple):
    """An ok frame's, of the live source."""

    time_s: float  # since the first sample, when its record was read
    latency_ms: float


def sample(run: Run, begun_s: float) -> Iterator[Sample]:
    """Look at every process of a run once."""
    named = {run.process.pid: "parent"} | {pid: words[-1] for pid, words in processes_of(run.place).items()}
    for pid, name in named.items():
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                held = process.memory_info().rss, process.num_fds(), process.num_threads()
        except psutil.NoSuchProcess:
            continue
        yield Sample(time.monotonic() - begun_s, name, pid, *held)


class Tail:
    """Reads what has been added to a file, whole lines at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self) -> list[bytes]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, _, rest = file.read().rpartition(b"\n")
            self._at = file.tell() - len(rest)
        return whole.split(b"\n") if whole else []
