"""The benchmark's figures as one document: what `--json` writes, and what the table shows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figures import Spread, batch, efficiency, latency_ms, medians_by_key, spread
from bench.job import LoopRun
from bench.scene import Measured


def make_document(
    machine: Mapping[str, Any], settings: Mapping[str, Any], main: Measured, others: Sequence[Measured]
) -> dict[str, Any]:
    """Return all figures; `others` have their throughput only."""
    rates = throughput(main)
    pipeline_fps = rates["pipeline"]["fps"]
    bare = medians_by_key([_bare(cost) for cost in main.bare])
    return {
        "machine": dict(machine),
        "settings": dict(settings),
        "pipeline": {
            **rates["pipeline"],
            "latency_ms": latency_ms([run.latency_ms for run in main.paced]),
            "latency_at_fps": round(main.pace_fps, 2),
            "latency_at": main.pace_reason,
            "latency_fps_reached": round(spread(run.fps for run in main.paced).median, 2),
            "batch": batch(run.batches for run in main.pipeline),
            "cpu_ms_per_frame": medians_by_key([run.cpu_ms_per_frame for run in main.pipeline]),
            "dropped": sum(run.dropped for run in [*main.pipeline, *main.paced]),
            "failed": sum(run.failed for run in [*main.pipeline, *main.paced]),
        },
        "tutorial_loop": rates["tutorial_loop"],  # None where it was left out, as is the ratio
        "plain_loop": rates["plain_loop"],
        "ratio_to_tutorial": rates["ratio_to_tutorial"],
        "ratio_to_plain": rates["ratio_to_plain"],
        "efficiency": round(efficiency(pipeline_fps, sum(bare.values()) / 1000, machine["cores"]), 3),
        "bare_cpu_ms_per_frame": bare,
        "faces_per_frame": rates["faces_per_frame"],
        "others": [throughput(other) for other in others],
    }


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write figures as JSON, for `--json`."""
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def throughput(found: Measured) -> dict[str, Any]:
    """Return the rates of all over one scene and their ratios, from medians of the same session.

    Of the plain loop the faster of its thread counts is taken. Without the tutorial's loop its rate and the
    ratio to it are None.
    """
    pipeline = spread(run.fps for run in found.pipeline)
    medians = {threads: spread(run.fps for run in runs).median for threads, runs in found.plain.items()}
    threads = max(medians, key=lambda count: medians[count])
    plain = found.plain[threads]
    return {
        "scene": found.scene.label,
        "frames": found.scene.frames,
        "runs": len(found.pipeline),
        "faces_per_frame": _faces_per_frame(plain),
        "pipeline": rate([run.fps for run in found.pipeline]),
        "tutorial_loop": _tutorial(found),
        "plain_loop": rate([run.fps for run in plain])
        | {"threads": threads, "fps_by_threads": {str(n): round(fps, 2) for n, fps in medians.items()}},
        "ratio_to_tutorial": _ratio(pipeline, found.tutorial),
        "ratio_to_plain": _ratio(pipeline, plain),
    }


def rate(runs: list[float]) -> dict[str, Any]:
    """Return the frames a second of several runs: the median, the extremes and each."""
    found = spread(runs)
    return {
        "fps": round(found.median, 2),
        "fps_spread": [round(found.least, 2), round(found.greatest, 2)],
        "fps_runs": [round(fps, 2) for fps in runs],
    }


def _tutorial(found: Measured) -> dict[str, Any] | None:
    if not found.tutorial:
        return None
    faces = _faces_per_frame(found.tutorial)
    return rate([run.fps for run in found.tutorial]) | {
        "frames": found.scene.tutorial_frames,
        "faces_per_frame": faces,
    }


def _ratio(pipeline: Spread, loop: list[LoopRun]) -> float | None:
    return round(pipeline.median / spread(run.fps for run in loop).median, 2) if loop else None


def _faces_per_frame(runs: list[LoopRun]) -> float:
    return round(sum(run.faces for run in runs) / sum(run.frames for run in runs), 2)


def _bare(cost: Any) -> dict[str, float]:
    return {part: getattr(cost, part) for part in ("decode", "detect", "classify", "draw")}
