"""Carries out what the supervisor decides: processes, the session with the broker, signals, and the loop."""

import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.config.schema import PipelineSettings
from pipeline.config.stage import ProcessPlan
from pipeline.supervisor.child_process import Child, ChildProcess, Lines, make_assignment
from pipeline.supervisor.metrics import Health, RunMetrics, serving
from pipeline.supervisor.plan import RunPlan
from pipeline.supervisor.reporter import LogHandler, Reporter
from pipeline.supervisor.supervisor import KillChild, LogLine, Send, StartChild, Supervisor, TerminateChild
from pipeline.wire.addresses import check_free
from pipeline.wire.assignment import Assignment
from pipeline.wire.messages import PROTOCOL, Hello, Message, SourceReport, StatusReport
from pipeline.wire.session import Session

POLL_S: Final = 0.05
KILL_WAIT_S: Final = 2.0
LAST_REPORT_S: Final = 0.2
SUSPEND_WAIT_S: Final = 1.5
"""How long a capture process may take to release its camera before it is suspended."""

MAX_LINES: Final = 10_000
"""Lines of children that wait to be printed; at this number a child's output blocks."""

_STOP_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP: the terminal is closed; not on Windows

Observer = Callable[[StatusReport, dict[str, int]], None]
"""Called with each report, and the pids of the processes by name."""

MakeChild = Callable[[ProcessPlan, Assignment, Lines], Child]


def local_child(plan: ProcessPlan, assignment: Assignment, lines: Lines) -> Child:
    return ChildProcess(assignment, plan.threads, lines, stdin=plan.stdin, stdout=plan.stdout)


class Signals:
    """A context manager: within it, the signals that ask for the run's end collect in `received`.

    `suspend` is true once the terminal's Ctrl-Z, or `kill -TSTP`, asks for a pause; not on Windows.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.suspend = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for name in _STOP_SIGNALS:
            number = getattr(signal, name, None)
            # An ignored SIGHUP (nohup) means that the run is to outlive the terminal.
            if number is None or (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                continue
            self._previous[number] = signal.signal(number, self._record)
        if sys.platform != "win32" and signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            self._previous[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._ask_to_suspend)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)

    def _ask_to_suspend(self, number: int, frame: FrameType | None) -> None:
        self.suspend = True

    def stop_here(self) -> None:
        """Stop this process, as Ctrl-Z does to others, and return when it is continued.

        Where no shell could continue it, the system ignores the signal, and this returns at once.
        """
        if sys.platform != "win32":
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, self._ask_to_suspend)
        self.suspend = False


class Runner:
    """One run, on this machine or, by `make_child`, on several.

    `observer` sees every report: the benchmark measures through it.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        plan: RunPlan,
        reporter: Reporter,
        signals: Signals,
        observer: Observer | None = None,
        make_child: MakeChild = local_child,
    ) -> None:
        """`signals` has been entered already."""
        self._settings = settings
        self._plan = plan
        self._reporter = reporter
        self._signals = signals
        self._observer = observer
        self._metrics, self._health = RunMetrics(), Health()
        self._instance = os.urandom(6).hex()  # a secret; those of the processes begin with it
        self._lines: Lines = queue.Queue(MAX_LINES)
        self._children: dict[str, Child] = {}
        instances: dict[str, str] = {}
        for process in plan.processes:
            instances[process.name] = f"{self._instance}/{process.name}-{os.urandom(6).hex()}"
            assignment = make_assignment(process, plan, settings, instances[process.name])
            self._children[process.name] = make_child(process, assignment, self._lines)
        self._suspended_s = 0.0  # in total
        self._supervisor = Supervisor(settings, plan, instances, self._now_s())

    def _now_s(self) -> float:
        """A monotonic clock that stops while the run is suspended."""
        return time.monotonic() - self._suspended_s

    def run(self) -> int:
        """Run to the end and return the exit status. No child is left. Raises UserError."""
        with serving(self._settings.metrics.address, self._metrics, self._health):
            if self._plan.has_broker:
                check_free(self._plan.address)
                check_free(self._plan.publish, "broker.publish")
            handler = LogHandler(self._reporter)  # for what the session logs
            logging.getLogger().addHandler(handler)
            session = Session(self._assignment(), self._hello)
            try:
                self._loop(session)
            finally:
                killed = self._stop_children()
                session.close(linger_ms=0)
                logging.getLogger().removeHandler(handler)
            self._supervisor.killed(killed)
            self._act(session)
            return self._finish(session)

    def _assignment(self) -> Assignment:
        """Return the assignment of this process, for its session with the broker."""
        plan = ProcessPlan("supervisor", __name__, f"supervisor-{os.getpid()}", msgspec.Struct())
        return make_assignment(plan, self._plan, self._settings, self._instance)

    def _hello(self) -> Hello:
        pid = os.getpid()
        return Hello("supervisor", f"supervisor-{pid}", self._instance, pid, PROTOCOL)

    # ------------------------------------------------------------------------------------------ the loop

    def _loop(self, session: Session) -> None:
        supervisor = self._supervisor
        while not supervisor.over(self._now_s()):
            self._listen(session, 0.0 if supervisor.starts_now(self._now_s()) else POLL_S)
            self._watch_children(session)
            while self._signals.received:
                supervisor.signal(self._signals.received.pop(0), self._now_s())
            if self._signals.suspend:
                self._suspend()
            supervisor.tick(self._now_s())
            self._act(session)
            self._health.turn_s, self._health.ready = time.monotonic(), supervisor.joined
        if supervisor.all_done:
            self._listen(session, LAST_REPORT_S)
            self._act(session)

    def _listen(self, session: Session, timeout_s: float) -> None:
        """Handle all messages, waiting for the first."""
        try:
            received = session.receive(round(timeout_s * 1000))
            while received is not None:
                self._on_message(received[0])
                received = session.receive(0)
        except UserError as error:
            self._supervisor.refused(str(error))
        self._supervisor.handshakes_failed(session.failed_handshakes)

    def _on_message(self, message: Message) -> None:
        self._supervisor.receive(message, self._now_s())
        if isinstance(message, StatusReport):
            self._reporter.update(message, self._supervisor.waiting_for())
            self._metrics.receive(message)
            if self._observer is not None:
                self._observer(message, {name: c.pid for name, c in self._children.items() if c.pid})

    def _watch_children(self, session: Session) -> None:
        ended = [(name, status) for name, c in self._children.items() if (status := c.reap()) is not None]
        self._take_lines()
        if ended:
            self._listen(session, 0.0)  # the broker's last report may say that the run has finished
        for name, status in ended:
            if self._children[name].lost:
                self._supervisor.child_lost(name, self._now_s())
            else:
                self._supervisor.child_ended(name, status, self._now_s())
        for name, child in self._children.items():
            if not child.placed:
                self._supervisor.child_unplaced(name, self._now_s())

    def _take_lines(self) -> None:
        for _ in range(self._lines.qsize()):
            self._supervisor.child_line(*self._lines.get())

    def _act(self, session: Session) -> None:
        for action in self._supervisor.drain():
            match action:
                case StartChild(name):
                    self._start(name)
                case TerminateChild(name):
                    self._children[name].terminate()
                case KillChild(name):
                    self._children[name].kill()
                case Send(message):
                    session.send(message)
                case LogLine(level, text):
                    self._reporter.log(level, text)

    def _start(self, name: str) -> None:
        try:
            self._children[name].start()
        except OSError as error:  # no memory, or too many processes of this user
            self._supervisor.refused(f"{name}: the process can't be started: {error.strerror}")

    def _suspend(self) -> None:
        """Stop all processes, then this one; go on when it is continued, as `fg` does.

        The children are in sessions of their own, where Ctrl-Z does not reach them. Captures come first: they
        release their cameras, and stop themselves.
        """
        if sys.platform == "win32":
            return
        if self._plan.placed:
            self._signals.suspend = False
            self._reporter.info("a run on a cluster can't be paused")
            return
        began_s = time.monotonic()
        self._reporter.suspend()
        own = [child for child in self._children.values() if isinstance(child, ChildProcess)]
        running = [child for child in own if not child.wait(0.0)]
        captures = [child for child in running if child.role == "capture"]
        for child in captures:
            child.signal(signal.SIGTSTP)
        for child in captures:
            while not child.stopped() and time.monotonic() - began_s < SUSPEND_WAIT_S:
                time.sleep(POLL_S)
        for child in running:
            child.signal(signal.SIGSTOP)
        self._signals.stop_here()
        for child in running:
            child.signal(signal.SIGCONT)
        paused_s = time.monotonic() - began_s
        self._suspended_s += paused_s
        self._reporter.info(f"continued after {paused_s:.0f} s")

    # ------------------------------------------------------------------------------------------- the end

    def _stop_children(self) -> list[str]:
        """Terminate all, wait, kill, wait; return the names of those that were killed.

        A signal that arrives meanwhile ends the first wait.
        """
        limit_s = 0.0 if self._supervisor.ending.at_once else self._settings.run.stop_timeout_s
        deadline_s = time.monotonic() + limit_s
        running = {name: child for name, child in self._children.items() if not child.wait(0.0)}
        for child in running.values():
            child.terminate()
        for child in running.values():
            while not child.wait(POLL_S) and time.monotonic() < deadline_s:
                if self._signals.received:
                    break
                self._take_lines()
        killed = [name for name, child in running.items() if not child.wait(0.0)]
        for name in killed:
            self._children[name].kill()
        for child in self._children.values():
            child.wait(KILL_WAIT_S)
            child.close()
            self._take_lines()
        return killed

    def _told_sources(self) -> list[SourceReport]:
        """The sources of the summary, without unused places of visitors except the first."""
        unused = {source.name for source in self._plan.sources if source.form == "browser"}
        reports = self._supervisor.sources
        return [one for one in reports if one.captured or one.name not in unused] or reports[:1]

    def _finish(self, session: Session) -> int:
        """Print the summary and return the exit status."""
        self._reporter.close()
        supervisor, complete = self._supervisor, True
        if supervisor.sources and supervisor.broker.begun:
            elapsed_s = supervisor.elapsed_s - self._suspended_s
            complete = self._reporter.print_summary(self._told_sources(), elapsed_s)
        status = supervisor.exit_status(incomplete=not complete)
        self._act(session)
        return status or int(self._reporter.lost > 0)
