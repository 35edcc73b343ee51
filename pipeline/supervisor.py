"""The parent: starts, watches, restarts and stops the processes of a run, and tells how it went.

It loads neither TensorFlow nor OpenCV. It talks to the broker as one more peer, and learns from it which
stages have fallen silent; the broker itself it knows by the reports that it sends.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import msgspec

from pipeline.channel import StageChannel
from pipeline.display_mode import resolve_display
from pipeline.endpoints import run_directory
from pipeline.errors import UserError
from pipeline.messages import (
    PROTOCOL,
    AnyMessage,
    Died,
    Expect,
    Heartbeat,
    Hello,
    Introduce,
    Refused,
    SourceEnded,
    StatusReport,
    StopRequest,
)
from pipeline.plan import DRAIN_S, RunPlan, make_plan
from pipeline.process import ROOT, ChildProcess
from pipeline.restarts import Restarts
from pipeline.settings import DisplaySettings, PipelineSettings
from pipeline.sources import SourceSpec, parse_sources
from pipeline.status import Reporter, print_summary, summary

POLL_MS: Final = 50
HEARTBEAT_S: Final = 0.5
KILL_WAIT_S: Final = 2.0
CAMERA_PROBE_S: Final = 20.0

Observer = Callable[[StatusReport, dict[str, int]], None]
"""Sees each report and the pids of the processes by name."""


def run(settings: PipelineSettings, sources: list[str], only: frozenset[str] | None) -> int:
    """Run the pipeline, or the stages in `only`, until its end; return the exit status.

    Raises UserError for what is wrong before any process has started.
    """
    reporter = _reporter(settings)
    try:
        here = only is None or "capture" in only
        specs = _sources(sources, reporter) if here else []
        if only is None or "display" in only:
            display, said = resolve_display(settings.display)
            if said:
                reporter.info(said)
            settings = _for_display(settings, display, specs)
        with run_directory() as directory:
            plan = make_plan(settings, specs, only, directory)
            return Supervisor(settings, plan, reporter).run()
    finally:
        reporter.close()


@dataclass
class _Signals:
    """Handlers only record: the loop acts."""

    received: list[int] = field(default_factory=list)
    _previous: dict[int, object] = field(default_factory=dict)

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)


class Supervisor:
    """One run on this machine. `observer` sees every report: the benchmark measures through it."""

    def __init__(
        self, settings: PipelineSettings, plan: RunPlan, reporter: Reporter, observer: Observer | None = None
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._reporter = reporter
        self._observer = observer
        self._children = [
            ChildProcess(
                process,
                plan,
                max_message_bytes=settings.broker.max_message_bytes,
                log_level=settings.log.level,
                on_line=reporter.line,
            )
            for process in plan.processes
        ]
        self._restarts = Restarts(settings.run.max_restarts)
        self._started_s: dict[str, float] = {}
        self._restart_at_s: dict[str, float] = {}
        self._done: set[str] = set()  # children that ended as they should
        self._report: StatusReport | None = None
        self._report_s = 0.0
        self._written = 0
        self._status: int | None = None  # decided: the run is being ended
        self._stop_deadline_s: float | None = None
        self._channel: StageChannel | None = None
        self._next_beat_s = 0.0

    def run(self) -> int:
        """Run to the end and return the exit status. No child is left."""
        with _Signals() as signals:
            try:
                self._start_all()
                self._loop(signals)
            finally:
                self._stop_all()
        return self._finish()

    # ----------------------------------------------------------------------------------------- the loop

    def _start_all(self) -> None:
        for child in self._children:
            self._start(child)
        if self._plan.has_broker:
            self._reporter.info(f"results are published at {self._plan.publish}")
        else:
            self._reporter.info(f"works for the broker at {self._plan.address}")
        name = f"parent-{os.getpid()}"
        self._channel = StageChannel(self._plan.address, name, self._settings.broker.max_message_bytes)
        self._introduce()
        self._report_s = self._begin_s = time.monotonic()

    def _start(self, child: ChildProcess) -> None:
        self._restart_at_s.pop(child.name, None)
        self._started_s[child.name] = time.monotonic()
        child.start()

    def _loop(self, signals: _Signals) -> None:
        while not self._over():
            self._listen()
            self._watch_children()
            self._watch_broker()
            if signals.received:
                self._on_signals(signals.received)
            if self._stop_deadline_s is not None and time.monotonic() > self._stop_deadline_s:
                return

    def _over(self) -> bool:
        """Every child has ended as it should, or the run is given up."""
        if self._status is not None and self._stop_deadline_s is None:
            return True
        return len(self._done) == len(self._children)

    def _on_signals(self, received: list[int]) -> None:
        """The first asks for a clean end, the second ends it at once."""
        status = 128 + received[0]
        if len(received) > 1:
            self._status, self._stop_deadline_s = status, 0.0
        elif self._status is None:
            self._stop(status, signal.Signals(received[0]).name)

    def _stop(self, status: int, reason: str) -> None:
        """Ask the broker to end the run; there is a limit to how long it may take."""
        if self._status is not None:
            return
        self._status = status
        self._stop_deadline_s = time.monotonic() + DRAIN_S + self._settings.run.stop_timeout_s
        assert self._channel is not None
        if self._report is None or not self._plan.has_broker:
            self._stop_deadline_s = 0.0  # nothing has begun, or the run goes on without this machine
        else:
            self._channel.send(StopRequest(reason))

    def _give_up(self, status: int, why: str = "") -> None:
        """End the run now."""
        if why:
            self._reporter.error(why)
        if self._status is None:
            self._status = status
        self._stop_deadline_s = None

    # ---------------------------------------------------------------------------------------- children

    def _watch_children(self) -> None:
        now_s = time.monotonic()
        for child in self._children:
            if child.name in self._restart_at_s:
                if now_s >= self._restart_at_s[child.name]:
                    self._start(child)
            elif child.name not in self._done:
                status = child.poll()
                if status is not None:
                    self._on_death(child, status, now_s)

    def _on_death(self, child: ChildProcess, status: int, now_s: float) -> None:
        child.close()
        finished = self._report is not None and self._report.finished
        if status == 0 and (finished or self._status is not None or not self._plan.has_broker):
            self._done.add(child.name)
            return
        if status == 2 and not self._begun:
            self._give_up(2)  # the child has said why
            return
        if finished or self._status is not None:
            self._done.add(child.name)
            if status != 0:
                self._reporter.warning(f"{child.name} did not end cleanly ({_how(status)})")
                self._status = self._status or 1
            return
        assert self._channel is not None
        self._channel.send(Died(child.slot))
        group = child.plan.source or child.plan.role
        delay_s = self._restarts.died(group, child.name, now_s - self._started_s[child.name])
        if delay_s is not None:
            self._reporter.warning(f"{child.name} died ({_how(status)}); started again in {delay_s:.1f} s")
            self._restart_at_s[child.name] = now_s + delay_s
        elif child.plan.source and self._begun:
            error = f"{child.plan.source}: its capture process died {self._settings.run.max_restarts} times"
            self._reporter.error(error)
            self._channel.send(SourceEnded(child.plan.source, 0, 0, error))
            self._done.add(child.name)
        else:
            self._give_up(
                1, f"{child.plan.role} died {self._settings.run.max_restarts} times without progress"
            )

    @property
    def _begun(self) -> bool:
        """Whether the first frame has been asked for: later errors end the run with 1, not 2."""
        return self._report is not None and self._report.started

    # ------------------------------------------------------------------------------------------ broker

    def _introduce(self) -> None:
        assert self._channel is not None
        name = f"parent-{os.getpid()}"
        self._channel.send(Hello("parent", name, name, os.getpid(), PROTOCOL))
        if self._plan.has_broker and self._plan.sources:
            self._channel.send(Expect([source.name for source in self._plan.sources]))

    def _listen(self) -> None:
        assert self._channel is not None
        now_s = time.monotonic()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + HEARTBEAT_S
            self._channel.send(Heartbeat())
        received = self._channel.receive(POLL_MS)
        while received is not None:
            self._on_message(received[0])
            received = self._channel.receive(0)

    def _on_message(self, message: AnyMessage) -> None:
        match message:
            case Introduce():
                self._introduce()
            case Refused(reason):
                self._give_up(2, reason)
            case StatusReport():
                self._on_report(message)

    def _on_report(self, report: StatusReport) -> None:
        if report.started and not self._begun:
            self._reporter.info("all stages are ready")
        self._report, self._report_s = report, time.monotonic()
        written = sum(source.progress.written for source in report.sources)
        if written > self._written:
            self._restarts.progressed()
        self._written = written
        for peer in report.peers:
            if peer.given_up:
                for child in self._children:
                    if child.slot == peer.slot:
                        child.kill()  # a stopped process does not hear anything gentler
        if report.stopping and self._status is None:
            self._stop(0, report.stopping)  # `q` in the window
        self._reporter.update(report)
        if self._observer is not None:
            self._observer(report, {child.name: child.pid for child in self._children})

    def _watch_broker(self) -> None:
        """A broker that has fallen silent is killed; that it is then restarted follows."""
        if not self._plan.has_broker:
            return
        now_s = time.monotonic()
        if not self._begun and now_s - self._begin_s > self._settings.run.start_timeout_s:
            missing = (
                ", ".join(sorted({c.plan.role for c in self._children} - self._roles_here())) or "a stage"
            )
            limit_s = self._settings.run.start_timeout_s
            self._give_up(2, f"not ready within {limit_s:.0f} s (run.start_timeout_s): waiting for {missing}")
        silent_s = now_s - self._report_s
        if self._report is not None and silent_s > self._settings.broker.peer_timeout_s:
            broker = next(child for child in self._children if child.plan.role == "broker")
            if broker.poll() is None and broker.name not in self._restart_at_s:
                self._reporter.warning(f"the broker has been silent for {silent_s:.0f} s and is killed")
                broker.kill()
                self._report_s = now_s

    def _roles_here(self) -> set[str]:
        return {"broker"} | {peer.role for peer in self._report.peers} if self._report else set()

    # ------------------------------------------------------------------------------------------ the end

    def _stop_all(self) -> None:
        """The ladder: ask, wait, kill, wait. All are signalled first, then each is joined."""
        running = [child for child in self._children if child.poll() is None]
        for child in running:
            child.terminate()
        deadline_s = time.monotonic() + (self._settings.run.stop_timeout_s if self._begun else KILL_WAIT_S)
        if self._stop_deadline_s == 0.0 and self._status is not None and self._begun:
            deadline_s = time.monotonic()
        for child in running:
            if not child.wait(max(0.0, deadline_s - time.monotonic())):
                child.kill()
        for child in self._children:
            child.wait(KILL_WAIT_S)
            child.close()
        if self._channel is not None:
            self._channel.close(linger_ms=0)

    def _finish(self) -> int:
        """Print the summary and settle the exit status."""
        self._reporter.close()
        sources = self._report.sources if self._report is not None else []
        if sources and self._begun:
            assert self._report is not None
            print_summary(summary(sources, self._reporter.rates, self._report.elapsed_s))
        failed = sum(source.progress.failed for source in sources)
        if failed:
            self._reporter.warning(f"{failed} frames failed; the results say why")
        if self._status is not None:
            return self._status
        return 1 if any(source.error for source in sources) else 0


def _for_display(
    settings: PipelineSettings, display: DisplaySettings, specs: list[SourceSpec]
) -> PipelineSettings:
    """Settle the display; the demo, when it is watched, repeats until it is stopped."""
    capture = settings.capture
    if display.mode == "window" and [spec.form for spec in specs] == ["demo"]:
        capture = msgspec.structs.replace(capture, repeat=0)
    return msgspec.structs.replace(settings, display=display, capture=capture)


def _how(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def _reporter(settings: PipelineSettings) -> Reporter:
    try:
        return Reporter(settings.log.level, settings.log.file, settings.log.status_interval_s)
    except OSError as error:
        raise UserError(f"log.file: {settings.log.file} can't be written: {error.strerror}") from error


def _sources(texts: list[str], reporter: Reporter) -> list[SourceSpec]:
    """The sources asked for; else the first camera that opens, else the demo."""
    if texts:
        return parse_sources(texts)
    command = [sys.executable, "-m", "stages.capture.probe"]
    try:
        probe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CAMERA_PROBE_S)
        camera = probe.stdout.strip()
    except subprocess.TimeoutExpired:
        camera = ""
    reporter.info(f"source: camera {camera}" if camera else "no camera opens: the demo is shown instead")
    return parse_sources([camera or "demo"])
