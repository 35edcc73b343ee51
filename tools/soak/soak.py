"""A run that goes on for a while, and what is found of it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.runs import Run
from tools.soak.samples import Latency, Sample, Tail, sample
from tools.soak.slopes import Slope, slope

EVERY_S: Final = 1.0
LIVE: Final = "http"
"""How the name of the live source begins: the file takes what is left, so that its latency tells nothing."""

RSS_BOUND: Final = 256 * 1024
"""Bytes a minute. In ten minutes noise hides less; what grows by more would fill 8 GB in three weeks."""

FILES_BOUND: Final = 0.1
THREADS_BOUND: Final = 0.1
"""A minute: one of either in ten minutes."""

LATENCY_BOUND_MS: Final = 50.0
"""A minute: a queue that grows shows far more."""


class Finding(NamedTuple):
    """What grows, or does not."""

    process: str
    what: str  # rss_bytes, files, threads or latency_ms
    slope: Slope
    bound: float

    @property
    def grows(self) -> bool:
        return self.slope.exceeds(self.bound)


def watch(run: Run, results: Path, seconds: float) -> tuple[list[Sample], list[Latency]]:
    """Look at a run for so long, from its first record on; latency is that of its live source."""
    run.until_records(results, 1)
    begun_s = time.monotonic()
    samples: list[Sample] = []
    latencies: list[Latency] = []
    tail = Tail(results)
    due_s = begun_s
    while due_s < begun_s + seconds:
        run.until(lambda due_s=due_s: time.monotonic() >= due_s)
        samples.extend(sample(run, begun_s))
        records = [json.loads(line) for line in tail.lines()]
        taken = [r["latency_ms"] for r in records if r["status"] == "ok" and r["source"].startswith(LIVE)]
        latencies.extend(Latency(time.monotonic() - begun_s, latency_ms) for latency_ms in taken)
        due_s += EVERY_S
    return samples, latencies


def findings(samples: Sequence[Sample], latencies: Sequence[Latency], warm_up_s: float) -> list[Finding]:
    """The slopes behind the warm-up. Raises AssertionError if a process was replaced: nothing is to die."""
    found = []
    for process in sorted({one.process for one in samples}):
        mine = [one for one in samples if one.process == process]
        assert len({one.pid for one in mine}) == 1, f"{process} was started again"
        warm = [one for one in mine if one.time_s >= warm_up_s]
        times_s = [one.time_s for one in warm]
        for what, bound in (("rss_bytes", RSS_BOUND), ("files", FILES_BOUND), ("threads", THREADS_BOUND)):
            found.append(Finding(process, what, slope(times_s, [getattr(one, what) for one in warm]), bound))
    late = [one for one in latencies if one.time_s >= warm_up_s]
    line = slope([one.time_s for one in late], [one.latency_ms for one in late])
    return [*found, Finding("all", "latency_ms", line, LATENCY_BOUND_MS)]
