"""What is seen of a run from its parent."""

import os
from typing import Any

from bench.measure import CpuSample, Watch, per_frame_ms, role_of
from pipeline.wire.messages import StatusReport
from tests.support.broker_world import make_report


def report(frames: int, **changes: Any) -> StatusReport:
    return make_report(**{"steps": {"display": frames}, "latency_ns": [2_000_000]} | changes)


def test_workers_of_one_role_are_summed_up() -> None:
    assert [role_of(name) for name in ("detect-2", "broker", "classify-1")] == [
        "detect",
        "broker",
        "classify",
    ]


def test_the_cpu_time_before_the_first_frame_is_not_a_frames_cost() -> None:
    first, last = CpuSample(10, {"detect": 5.0}), CpuSample(60, {"detect": 6.0, "display": 0.1})
    assert per_frame_ms(first, last) == {"detect": 20.0, "display": 2.0}
    assert per_frame_ms(first, first) == {}


def test_every_latency_counts_and_the_end_is_no_sample() -> None:
    watch = Watch()
    pids = {"detect-1": os.getpid(), "broker": 2**22 + 1}  # no process has that number
    watch(report(0, started=False), pids)
    watch(report(0), pids)
    watch(report(10), pids)
    watch(report(20, finished=True), pids)
    assert watch.latency_ms == [2.0] * 4
    assert set(watch.cpu_ms_per_frame()) == {"detect", "parent"}
