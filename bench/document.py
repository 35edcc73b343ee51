"""The benchmark's figures as one document: what `--json` writes, and what the table shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import Spread, batch, efficiency, latency_ms, medians_by_key, spread
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
        "tutorial_loop": rates["tutorial_loop"],
        "plain_loop": rates["plain_loop"],
        "ratio_to_tutorial": rates["ratio_to_tutorial"],
        "ratio_to_plain": rates["ratio_to_plain"],
        "efficiency": round(efficiency(pipeline_fps, sum(bare.values()) / 1000, machine["cores"]), 3),
        "bare_cpu_ms_per_frame": bare,
        "faces_per_frame": rates["faces_per_frame"],
        "others": [throughput(other) for other in others],
    }


def throughput(found: Measured) -> dict[str, Any]:
    """Return the rates of the three over one scene and their ratios, from medians of the same session."""
    tutorial, plain, pipeline = (
        spread(run.fps for run in runs) for runs in (found.tutorial, found.plain, found.pipeline)
    )
    plain_faces = sum(run.faces for run in found.plain) / sum(run.frames for run in found.plain)
    tutorial_faces = sum(run.faces for run in found.tutorial) / sum(run.frames for run in found.tutorial)
    return {
        "scene": found.scene.label,
        "frames": found.scene.frames,
        "runs": len(found.pipeline),
        "faces_per_frame": round(plain_faces, 2),
        "pipeline": _rate(pipeline, [run.fps for run in found.pipeline]),
        "tutorial_loop": _rate(tutorial, [run.fps for run in found.tutorial])
        | {"frames": found.scene.tutorial_frames, "faces_per_frame": round(tutorial_faces, 2)},
        "plain_loop": _rate(plain, [run.fps for run in found.plain]),
        "ratio_to_tutorial": round(pipeline.median / tutorial.median, 2),
        "ratio_to_plain": round(pipeline.median / plain.median, 2),
    }


def _rate(found: Spread, runs: list[float]) -> dict[str, Any]:
    return {
        "fps": round(found.median, 2),
        "fps_spread": [round(found.least, 2), round(found.greatest, 2)],
        "fps_runs": [round(fps, 2) for fps in runs],
    }


def _bare(cost: Any) -> dict[str, float]:
    return {part: getattr(cost, part) for part in ("decode", "detect", "classify", "draw")}
