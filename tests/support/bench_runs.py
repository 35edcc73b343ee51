"""Runs as they might have been."""

from argparse import Namespace
from typing import Any

from bench.job import BareCost, LoopRun
from bench.measure import Measured, PipelineRun, Scene

MACHINE: dict[str, Any] = {
    "cpu": "a made-up one",
    "cores": 2,
    "python": "3.11.0",
    "packages": {"onnxruntime": "1.32.0", "opencv-python": "4.14.0.94"},
}
SETTINGS: dict[str, Any] = {
    "source": "clip.mp4",
    "detector": "haar",
    "model": {"name": "tiny", "multiply_adds": 2_000_000, "labels": "consensus"},
}


def bench_options(**changes: Any) -> Namespace:
    """Return the options of `run.py bench`, as the command line has them without words."""
    fields = {"source": "demo", "frames": 300, "runs": 5, "json": None, "plots": None}
    return Namespace(**fields | {"without_tutorial": False} | changes)


def pipeline_run(fps: float, **changes: Any) -> PipelineRun:
    fields: dict[str, Any] = {
        "frames": 100,
        "seconds": 100 / fps,
        "latency_ms": [20.0, 30.0, 40.0],
        "batches": {2: 30, 4: 10},
        "cpu_ms_per_frame": {"detect": 9.0, "broker": 1.0},
        "dropped": 0,
        "failed": 0,
    }
    return PipelineRun(**fields | changes)


def measured(label: str = "clip.mp4, 640×480", source: str = "clip.mp4") -> Measured:
    """Three runs: tutorial 5, plain 40 (35 with two threads), pipeline 80 frames a second in the median."""
    return Measured(
        Scene(label, source, 100, 50),
        [LoopRun(50, 100, 50 / fps) for fps in (4.0, 5.0, 6.0)],
        {
            1: [LoopRun(100, 250, 100 / fps) for fps in (41.0, 40.0, 20.0)],
            2: [LoopRun(100, 250, 100 / fps) for fps in (30.0, 50.0, 35.0)],
        },
        [pipeline_run(fps) for fps in (80.0, 60.0, 90.0)],
        [pipeline_run(30.0, dropped=1)],
        [BareCost(1.0, 10.0, 4.0, 1.0)],
        30.0,
        "30 frames a second",
    )
