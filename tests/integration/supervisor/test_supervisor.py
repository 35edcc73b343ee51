"""What the parent passes on of what its children say. Whole runs are in tests/e2e."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.broker.spec import BROKER
from pipeline.config.schema import PipelineSettings
from pipeline.supervisor.child_main import LATE_STATUS
from pipeline.supervisor.child_process import ChildProcess, stop_all
from pipeline.supervisor.plan import make_plan
from pipeline.supervisor.reporter import Reporter
from pipeline.supervisor.supervisor import MOST_ERRORS, Supervisor
from pipeline.wire.messages import PeerReport
from stages.detect.spec import DetectSettings
from stages.stage import STAGES
from tests.support.broker_world import make_report


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    settings = PipelineSettings(DetectSettings(workers=2))
    reporter = Reporter("info", "", 5.0)
    made = Supervisor(settings, make_plan((BROKER, *STAGES), settings, [], None, tmp_path), reporter)
    for child in made._children:
        child.starts = 1
    yield made
    made._channel.close(linger_ms=0)
    reporter.close()


def child(supervisor: Supervisor, name: str) -> ChildProcess:
    return next(child for child in supervisor._children if child.name == name)


def test_one_cause_at_the_start_is_one_line(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor._on_line(child(supervisor, "detect-1"), "error: no such detector")
    supervisor._on_line(child(supervisor, "detect-2"), "error: no such detector for me either")
    supervisor._on_line(child(supervisor, "display"), "12:00:00 display: not an error")
    assert capsys.readouterr().err == "error: no such detector\n12:00:00 display: not an error\n"


def test_a_new_error_on_the_way_is_told_and_not_again_by_the_next_process(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    detect = child(supervisor, "detect-1")
    supervisor._attendance.joined.add(detect.slot)
    supervisor._on_line(detect, "error: first")
    detect.starts = 2
    supervisor._on_line(detect, "error: second")
    supervisor._on_line(detect, "error: first")
    assert capsys.readouterr().err == "error: first\nerror: second\n"


def test_a_worker_refused_by_a_run_that_has_begun_elsewhere_has_not_started(supervisor: Supervisor) -> None:
    refused = child(supervisor, "detect-1")
    supervisor._begun = True  # told by the broker, on another machine
    supervisor._on_end(refused, 2, now_s=1.0)
    assert supervisor._status == 2


def test_an_output_that_fails_on_the_way_ends_the_run_with_1(supervisor: Supervisor) -> None:
    display = child(supervisor, "display")
    supervisor._begun = True
    supervisor._attendance.joined.add(display.slot)
    supervisor._on_end(display, LATE_STATUS, now_s=1.0)
    assert supervisor._status == 1


def test_signal_before_the_start_is_reported_ends_in_order(supervisor: Supervisor) -> None:
    """Frames may be on their way by then: the run has started, and the report of that is not here yet."""
    supervisor._on_report(make_report(started=False))
    supervisor._on_signals([signal.SIGINT])
    assert supervisor._status == 130
    assert supervisor._stop_reason == "SIGINT"
    assert supervisor._deadline_s is not None and supervisor._deadline_s > time.monotonic()


def test_a_signal_before_the_broker_has_reported_ends_the_run_at_once(supervisor: Supervisor) -> None:
    supervisor._on_signals([signal.SIGINT])
    assert supervisor._status == 130
    assert supervisor._deadline_s == 0.0


def test_what_was_never_started_need_not_be_stopped(supervisor: Supervisor) -> None:
    for process in supervisor._children:
        process.starts = 0
    assert stop_all(supervisor._children, 0.0, lambda: False) == []


def test_in_a_month_nothing_that_the_parent_remembers_grows(supervisor: Supervisor) -> None:
    """Ever new errors, new brokers, and new stages of other machines."""
    detect = child(supervisor, "detect-1")
    for number in range(1000):
        supervisor._on_line(detect, f"error: no {number}")
        peers = [PeerReport(f"slot-{number}", "detect-9", "detect", 0.1, False)]
        peers.append(PeerReport(detect.slot, "detect-1", "detect", 0.1, False))
        supervisor._on_report(make_report(broker=f"broker-{number}", peers=peers, elapsed_s=2.0))
    assert len(supervisor._errors) <= MOST_ERRORS + 2
    assert supervisor._attendance.joined == {detect.slot}
    assert supervisor._elapsed_before_s == 2.0 * 999
