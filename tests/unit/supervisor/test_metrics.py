"""What /metrics says of a run."""

import re

import pytest

from pipeline.common.files import PROJECT
from pipeline.supervisor.metrics import RunMetrics, percentiles
from pipeline.wire.messages import Committed, PeerReport, QueueReport, SourceReport, StatusReport
from tests.support.broker_world import make_report

ALERTS = PROJECT / "deploy" / "prometheus" / "alerts.yaml"


def peer(name: str) -> PeerReport:
    return PeerReport(name, name, name.partition("-")[0], 0.1, timed_out=False)


def report(*names: str, broker: str = "a") -> StatusReport:
    committed = Committed(10, 7, 1, {"superseded": 2})
    return make_report(
        broker=broker,
        started=True,
        sources=[SourceReport('do"or', "live", 12, 2, committed, False, "")],
        peers=[peer(name) for name in names],
        steps={"detect": 9},
        busy_ns={"detect": 1_500_000_000},
        batches={1: 3, 5: 2},
        latency_ns=[4_000_000, 30_000_000, 9_000_000_000],
        queues={"detect": QueueReport(3, 0.25)},
    )


@pytest.fixture
def metrics() -> RunMetrics:
    metrics = RunMetrics()
    metrics.receive(report("detect-1", "detect-2"))
    return metrics


def value(metrics: RunMetrics, sample: str) -> float:
    (found,) = re.findall(rf"^{re.escape(sample)} (\S+)$", metrics.text(), re.MULTILINE)
    return float(found)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (r'emotions_frames_captured_total{source="do\"or"}', 12),
        (r'emotions_frames_total{source="do\"or",status="ok",reason=""}', 7),
        (r'emotions_frames_total{source="do\"or",status="dropped",reason="superseded"}', 2),
        (r'emotions_frames_in_flight{source="do\"or"}', 2),
        (r'emotions_source_ended{source="do\"or"}', 0),
        ('emotions_queue_length{role="detect"}', 3),
        ('emotions_queue_age_seconds{role="detect"}', 0.25),
        ('emotions_step_busy_seconds_total{role="detect"}', 1.5),
        ('emotions_frame_latency_seconds_bucket{le="0.005"}', 1),
        ('emotions_frame_latency_seconds_bucket{le="0.05"}', 2),
        ('emotions_frame_latency_seconds_bucket{le="+Inf"}', 3),
        ("emotions_frame_latency_seconds_sum", 9.034),
        ('emotions_batch_size_bucket{le="4"}', 3),
        ('emotions_batch_size_bucket{le="8"}', 5),
        ("emotions_batch_size_sum", 13),
    ],
)
def test_a_report_is_shown(metrics: RunMetrics, sample: str, expected: float) -> None:
    assert value(metrics, sample) == expected


def test_latencies_add_up_until_a_new_broker(metrics: RunMetrics) -> None:
    metrics.receive(report("detect-1"))
    assert value(metrics, "emotions_frame_latency_seconds_count") == 6
    metrics.receive(report("detect-1", broker="b"))
    assert value(metrics, "emotions_frame_latency_seconds_count") == 3


def test_percentiles_of_nothing_are_nothing() -> None:
    assert percentiles([]) is None
    assert percentiles([5.0]) == (5.0, 5.0)


def test_restarts_are_counted(metrics: RunMetrics) -> None:
    metrics.receive(report("detect-1"))
    assert value(metrics, 'emotions_process_up{process="detect-2"}') == 0
    metrics.receive(report("detect-1", "detect-2"))
    assert value(metrics, 'emotions_process_up{process="detect-2"}') == 1
    assert value(metrics, 'emotions_process_restarts_total{process="detect-2"}') == 1


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(metrics: RunMetrics) -> None:
    known = set(re.findall(r"^# TYPE (\S+)", metrics.text(), re.MULTILINE))
    for file in (ALERTS, PROJECT / "deploy" / "grafana" / "dashboard.json"):
        asked = set(re.findall(r"emotions_[a-z_]+", file.read_text(encoding="utf-8")))
        assert asked and {re.sub("_(bucket|sum|count)$", "", name) for name in asked} <= known
