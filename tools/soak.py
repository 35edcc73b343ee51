"""`python -m tools.soak --minutes 10`: whether memory, open files, threads or latency of a long run grow.

Runs a camera, which this process serves, and a repeated file, with a recording and results. Samples memory,
open files and threads of every process each second, and the latency of every frame, and fits a line to each
after the warm-up. Ends with 1 if one grows beyond its bound.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import linregress

from bench.job import describe
from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Run, processes_of
from tools.faults import OPTIONS, Tail, starter
from tools.measuring import table

BLOCKS: Final = 30
"""Samples that follow each other are alike, which would make the error look small: means of so many blocks in
a row are fitted instead."""


class Slope(NamedTuple):
    """Of a series, a minute."""

    mean: float
    per_minute: float
    error: float  # one standard error of `per_minute`

    def exceeds(self, bound: float) -> bool:
        """Whether it grows by more than `bound` a minute for certain: by two standard errors more."""
        return self.per_minute - 2 * self.error > bound


def slope(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line; at least three samples."""
    blocks = min(BLOCKS, len(values))
    minutes = [float(part.mean()) / 60 for part in np.array_split(np.array(times_s, float), blocks)]
    means = [float(part.mean()) for part in np.array_split(np.array(values, float), blocks)]
    if min(means) == max(means):  # linregress has no error for those
        return Slope(means[0], 0.0, 0.0)
    fit = linregress(minutes, means)
    return Slope(float(np.mean(values)), float(fit.slope), float(fit.stderr))


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


EVERY_S: Final = 1.0
LIVE: Final = "http"
"""Start of the live source's name: only its latency counts, since the file uses the spare time."""

RSS_BOUND: Final = 256 * 1024
"""Bytes a minute: more than the noise of ten minutes; growth by this would fill 8 GB in three weeks."""

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


def plot(samples: Sequence[Sample], latencies: Sequence[Latency], path: Path) -> None:
    """Memory and open files of each process and the latency, over time, as a PNG."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    FigureCanvasAgg(figure)
    memory, files, late = figure.subplots(3, 1, sharex=True)
    for process in sorted({one.process for one in samples}):
        mine = [one for one in samples if one.process == process]
        minutes = [one.time_s / 60 for one in mine]
        memory.plot(minutes, [one.rss_bytes / 1e6 for one in mine], label=process)
        files.plot(minutes, [one.files for one in mine])
    late.plot([one.time_s / 60 for one in latencies], [one.latency_ms for one in latencies], ",")
    memory.set_ylabel("RSS, MB")
    files.set_ylabel("open files")
    late.set_ylabel("latency of live frames, ms")
    late.set_xlabel("minutes")
    late.set_yscale("log")
    memory.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=100)


KEPT_EVERY_S = 30
"""Of the samples, so many seconds apart are written down."""

ENDLESS = ("--set", "capture.repeat=0", "--set", "capture.pace_fps=10", "--source", "demo:2")


def row(finding: Finding) -> tuple[str, ...]:
    """A line of the table; memory in kB."""
    scale = 1 / 1024 if finding.what == "rss_bytes" else 1.0
    mean, per_minute, error = (scale * value for value in finding.slope)
    what = finding.what.replace("rss_bytes", "RSS, kB")
    said = "**grows**" if finding.grows else "flat"
    return finding.process, what, f"{mean:.1f}", f"{per_minute:+.2f} ± {error:.2f}", said


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, metavar="MINUTES", help="left out (default: a fifth)")
    parser.add_argument("--set", action="append", default=[], metavar="table.key=value")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there, .png")
    options = parser.parse_args()
    settings = [word for one in options.set for word in ("--set", one)]
    with ExitStack() as stack:
        camera = stack.enter_context(MjpegCamera())
        start, folder = stack.enter_context(starter())
        outputs = "--results", folder / "r.jsonl", "--record", folder / "v.mkv"
        run = start(*OPTIONS, *ENDLESS, *settings, "--source", camera.url, *outputs)
        samples, latencies = watch(run, folder / "r.jsonl", 60 * options.minutes)
        run.signal(signal.SIGINT)
        done = run.end()
    warm_up = options.minutes / 5 if options.warm_up is None else options.warm_up
    found = findings(samples, latencies, 60 * warm_up)
    print(done.stdout)
    print(table(("process", "what", "mean", "a minute", ""), list(map(row, found))))
    if options.json:
        slopes = [one._asdict() | {"slope": one.slope._asdict(), "grows": one.grows} for one in found]
        figures = {"minutes": options.minutes, "warm_up": warm_up, "summary": done.stdout, "slopes": slopes}
        kept = [one._asdict() for one in samples if int(one.time_s) % KEPT_EVERY_S == 0]
        figures |= {"machine": describe(), "samples": kept}
        options.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    if options.plot:
        plot(samples, latencies, options.plot)
    return 1 if any(one.grows for one in found) or done.status != 130 else 0


if __name__ == "__main__":
    sys.exit(main())
