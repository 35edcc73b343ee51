"""The arithmetic, on made-up numbers."""

from bench.document import batch, latency_ms, medians_by_key, rate
from bench.job import LoopRun
from bench.measure import pace_for
from tests.support.bench_runs import pipeline_run


def test_a_rate_is_the_median_between_the_extremes() -> None:
    runs = [LoopRun(frames=10, faces=faces, seconds=10 / fps) for fps, faces in ((30, 5), (10, 6), (20, 4))]
    assert rate(runs) == {
        "fps": 20.0,
        "fps_spread": [10.0, 30.0],
        "fps_runs": [30.0, 10.0, 20.0],
        "faces_per_frame": 0.5,
    }
    assert rate(runs[:2])["fps"] == 20.0
    assert "faces_per_frame" not in rate([pipeline_run(80.0)])


def test_the_pace_is_thirty_unless_that_is_too_much() -> None:
    assert pace_for(100.0) == (30.0, "30 frames a second")
    pace_fps, reason = pace_for(31.0)  # thirty would leave no room: the queue would be what is measured
    assert pace_fps == 15.5
    assert reason.startswith("half the throughput")


def test_latency_is_the_median_of_each_runs_percentiles() -> None:
    calm, disturbed = [10.0] * 100, [10.0] * 90 + [500.0] * 10
    assert latency_ms([calm, disturbed, calm]) == {"p50": 10.0, "p95": 10.0, "p99": 10.0}
    assert latency_ms([disturbed]) == {"p50": 10.0, "p95": 500.0, "p99": 500.0}


def test_batches_of_all_runs_are_counted_together() -> None:
    assert batch([{1: 2, 16: 1}, {16: 1}]) == {"mean": 8.5, "histogram": {"1": 2, "16": 2}}
    assert batch([{}]) == {"mean": 0.0, "histogram": {}}


def test_a_run_too_short_to_tell_is_left_out_of_a_median() -> None:
    assert medians_by_key([{"detect": 9.0}, {}, {"detect": 11.0, "broker": 1.0}]) == {
        "detect": 10.0,
        "broker": 1.0,
    }
