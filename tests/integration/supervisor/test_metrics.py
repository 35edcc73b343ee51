"""The server of /metrics, /healthz and /readyz, and what promtool says of what is in deploy/prometheus."""

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.supervisor.metrics import STUCK_S, Health, RunMetrics, serving
from pipeline.wire.addresses import free_port
from pipeline.wire.messages import QueueReport
from tests.support.broker_world import make_report

ALERTS = PROJECT / "deploy" / "prometheus" / "alerts.yaml"


@pytest.fixture
def metrics() -> RunMetrics:
    metrics = RunMetrics()
    metrics.receive(make_report(queues={"detect": QueueReport(3, 0.25)}, latency_ns=[4_000_000]))
    return metrics


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(metrics: RunMetrics, health: Health) -> Iterator[str]:
    port = free_port()
    with serving(f"127.0.0.1:{port}", metrics, health):
        yield f"http://127.0.0.1:{port}"


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_health_is_that_of_the_loop(server: str, health: Health) -> None:
    assert status(f"{server}/healthz") == 200
    health.turn_s = time.monotonic() - STUCK_S
    assert status(f"{server}/healthz") == 503
    assert status(f"{server}/readyz") == 503
    health.ready = True
    assert status(f"{server}/readyz") == 200
    assert status(f"{server}/metrics") == 200
    assert status(f"{server}/etc/passwd") == 404


@pytest.mark.parametrize("address", ["9464", "127.0.0.1", "127.0.0.1:70000", ":9464", "192.0.2.77:9464"])
def test_an_address_that_can_not_be(address: str, metrics: RunMetrics, health: Health) -> None:
    with pytest.raises(UserError, match=r"metrics\.address: "), serving(address, metrics, health):
        pass


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool (apt: prometheus): metrics and alerts are not checked")
    return found


def test_prometheus_reads_it(promtool: str, metrics: RunMetrics) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.text(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("command", [["check", "rules"], ["test", "rules"]])
def test_alerts(promtool: str, command: list[str]) -> None:
    file = ALERTS if command[0] == "check" else ALERTS.with_name("alerts_test.yaml")
    done = subprocess.run([promtool, *command, file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
