"""Sees a run of the pipeline from its parent: latencies, batches, and the CPU time of each process."""

import time
from collections import defaultdict
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from pipeline.messages import StatusReport


class CpuSample(NamedTuple):
    """CPU seconds, user and system, by role since the processes began, and the frames written by then."""

    frames: int
    seconds: dict[str, float]


class Watch:
    """The Supervisor's observer: called with each report of the broker, four a second."""

    def __init__(self) -> None:
        self.report: StatusReport | None = None
        self.latency_ms: list[float] = []
        self._processes: dict[int, psutil.Process] = {}
        self._first: CpuSample | None = None
        self._last: CpuSample | None = None

    def __call__(self, report: StatusReport, pids: dict[str, int]) -> None:
        self.report = report
        self.latency_ms.extend(ns / 1e6 for ns in report.latency_ns)
        # Not once frames have ended: unloading the libraries is no part of a frame's cost.
        if report.started and not report.finished:
            sample = CpuSample(report.steps.get("display", 0), self._cpu_s(pids))
            self._first = self._first or sample
            self._last = sample

    def cpu_ms_per_frame(self) -> dict[str, float]:
        """Return the CPU time of each role while frames flowed; empty for a run too short to tell."""
        if self._first is None or self._last is None:
            return {}
        return per_frame_ms(self._first, self._last)

    def _cpu_s(self, pids: dict[str, int]) -> dict[str, float]:
        seconds: defaultdict[str, float] = defaultdict(float)
        for name, pid in pids.items():
            try:
                spent = self._process(pid).cpu_times()
            except psutil.Error:  # it has just ended
                continue
            seconds[role_of(name)] += spent.user + spent.system
        seconds["parent"] = time.process_time()
        return dict(seconds)

    def _process(self, pid: int) -> psutil.Process:
        if pid not in self._processes:
            self._processes[pid] = psutil.Process(pid)
        return self._processes[pid]


def role_of(name: str) -> str:
    """The role of a process: detect-2 is one of detect."""
    stem, dash, number = name.rpartition("-")
    return stem if dash and number.isdigit() else name


def per_frame_ms(first: CpuSample, last: CpuSample) -> dict[str, float]:
    """Return the CPU time by role for each frame written between two samples, ms."""
    frames = last.frames - first.frames
    if frames <= 0:
        return {}
    spent = {role: last.seconds[role] - first.seconds.get(role, 0.0) for role in last.seconds}
    return {role: 1000 * max(0.0, seconds) / frames for role, seconds in spent.items()}
