"""From the runs to the figures: medians, ratios, efficiency. Nothing is measured here."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np

PACE_FPS: Final = 30.0
ROOM: Final = 0.9
"""Share of the throughput up to which a pace is bearable: nearer to 1, latency tells of queues alone."""


class Spread(NamedTuple):
    """The median of several runs, the least and the greatest."""

    median: float
    least: float
    greatest: float


def spread(values: Iterable[float]) -> Spread:
    """Return how values are spread; there must be one at least."""
    ordered = sorted(values)
    return Spread(float(median(ordered)), ordered[0], ordered[-1])


def pace_for(throughput_fps: float) -> tuple[float, str]:
    """Return the rate at which latency is measured, and why that."""
    if throughput_fps * ROOM >= PACE_FPS:
        return PACE_FPS, f"{PACE_FPS:.0f} frames a second"
    return throughput_fps / 2, f"half the throughput: {PACE_FPS:.0f} a second is too much here"


def efficiency(pipeline_fps: float, bare_cpu_s: float, cores: int) -> float:
    """Return the share of all cores' time that goes into the work itself, at this rate; 1 is the most.

    `bare_cpu_s`: CPU time a frame of decoding, detecting, classifying and drawing with nothing round it.
    """
    return pipeline_fps * bare_cpu_s / cores


def latency_ms(runs: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the percentiles of a frame's latency: of each run, and then the median of the runs."""
    rows = np.array([np.percentile(run, (50, 95, 99)) for run in runs])
    p50, p95, p99 = (round(float(value), 2) for value in np.median(rows, axis=0))
    return {"p50": p50, "p95": p95, "p99": p99}


def batch(runs: Iterable[Mapping[int, int]]) -> dict[str, Any]:
    """Return the mean batch and how often each size came, over all runs."""
    histogram: Counter[int] = Counter()
    for run in runs:
        histogram.update(run)
    batches = sum(histogram.values())
    faces = sum(size * count for size, count in histogram.items())
    mean = round(faces / batches, 2) if batches else 0.0
    return {"mean": mean, "histogram": {str(size): histogram[size] for size in sorted(histogram)}}


def medians_by_key(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each key over the runs that have it."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: round(median(run[key] for run in runs if key in run), 3) for key in keys}
