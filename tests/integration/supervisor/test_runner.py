"""The runner with real processes and sockets. Whole runs are in tests/e2e."""

import os
import signal
from collections.abc import Iterator

import pytest

from pipeline.broker.spec import BROKER
from pipeline.cli.main import ROLES
from pipeline.config.schema import LogSettings, PipelineSettings
from pipeline.supervisor.child_process import ChildProcess
from pipeline.supervisor.plan import RunPlan, laid_out
from pipeline.supervisor.reporter import Reporter
from pipeline.supervisor.runner import Runner, Signals
from stages.detect.spec import DetectSettings
from stages.stage import STAGES


@pytest.fixture
def settings() -> PipelineSettings:
    return PipelineSettings(DetectSettings(workers=100))


@pytest.fixture
def plan(settings: PipelineSettings) -> Iterator[RunPlan]:
    with laid_out((BROKER, *STAGES), settings, [], frozenset(ROLES)) as plan:
        yield plan


def test_a_signal_is_obeyed_while_processes_are_being_started(
    settings: PipelineSettings, plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    with Signals() as signals:
        runner = Runner(settings, plan, Reporter(LogSettings()), signals)
        os.kill(os.getpid(), signal.SIGINT)
        assert runner.run() == 130
    started = [child for child in runner._children.values() if child.pid]
    assert len(started) <= 1 and all(child.wait(0.0) for child in started)
    assert "error" not in capsys.readouterr().err


def test_a_process_that_the_system_refuses_ends_the_run_in_one_line(
    settings: PipelineSettings,
    plan: RunPlan,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(child: ChildProcess) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(ChildProcess, "start", refuse)
    with Signals() as signals:
        assert Runner(settings, plan, Reporter(LogSettings()), signals).run() == 2
    line = "error: broker: the process can't be started: Resource temporarily unavailable\n"
    assert capsys.readouterr().err == line


def test_what_was_never_started_need_not_be_stopped(settings: PipelineSettings, plan: RunPlan) -> None:
    with Signals() as signals:
        assert Runner(settings, plan, Reporter(LogSettings()), signals)._stop_children() == []
