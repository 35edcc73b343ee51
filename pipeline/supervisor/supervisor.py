"""The parent: starts, watches, restarts and stops the processes of a run, and tells how it went.

It loads neither OpenCV nor a network. It talks to the broker as one more peer, and learns from it which
stages have fallen silent; the broker itself it knows by the reports that it sends.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from pipeline.common.errors import LateError, UserError
from pipeline.config.schema import DRAIN_S, PipelineSettings
from pipeline.supervisor.child_main import LATE_STATUS
from pipeline.supervisor.child_process import ChildProcess, stop_all
from pipeline.supervisor.plan import RunPlan
from pipeline.supervisor.reporter import Reporter, print_summary, summary
from pipeline.supervisor.restart_policy import Restarts
from pipeline.supervisor.signals import Signals
from pipeline.supervisor.watchdog import Attendance
from pipeline.wire.addresses import check_free
from pipeline.wire.messages import (
    PROTOCOL,
    AnyMessage,
    Died,
    Heartbeat,
    Hello,
    Introduce,
    MessageError,
    Refused,
    SourceEnded,
    StatusReport,
    StopRequest,
)
from pipeline.wire.session import load_stage_keys
from pipeline.wire.sockets import StageChannel

POLL_MS: Final = 50
LAST_REPORT_MS: Final = 200
HEARTBEAT_S: Final = 0.5
FINISH_S: Final = 1.0
"""A stage that has heard of the end may be gone before the parent has."""

BROKER_START_S: Final = 15.0
"""How long a broker may take from its start to its first report, on a machine that is busy with others."""
UNHEARD: Final = 3
"""So many handshakes in a row that come to nothing are no accident; said once."""

MOST_ERRORS: Final = 100
"""Lines of children that are remembered, not to be said again."""

Observer = Callable[[StatusReport, dict[str, int]], None]
"""Sees each report and the pids of the processes by name."""


class Supervisor:
    """One run on this machine. `observer` sees every report: the benchmark measures through it."""

    def __init__(
        self,
        settings: PipelineSettings,
        plan: RunPlan,
        reporter: Reporter,
        observer: Observer | None = None,
        signals: Signals | None = None,
    ) -> None:
        """Without `signals`, which are active already, the run watches for them itself."""
        self._settings = settings
        self._plan = plan
        self._reporter = reporter
        self._observer = observer
        self._signals = signals
        self._slot = os.urandom(6).hex()
        self._children = [
            ChildProcess(
                process,
                plan,
                max_message_bytes=settings.broker.max_message_bytes,
                log_level=settings.log.level,
                parent_slot=self._slot,
                on_line=self._on_line,
            )
            for process in plan.processes
        ]
        self._slots = {child.slot for child in self._children}
        self._restarts = Restarts(settings.run.max_restarts)
        self._restart_at_s: dict[str, float] = {}
        self._ended_s: dict[str, float] = {}  # of children that ended with 0 while nothing told of an end
        self._done: set[str] = set()  # children that are not started again
        self._attendance = Attendance(settings.broker.peer_timeout_s, plan.has_broker)
        self._errors: set[str] = set()  # lines that children have said
        self._errors_lock = threading.Lock()
        self._report: StatusReport | None = None
        self._report_s = 0.0
        self._begin_s = 0.0
        self._say_waiting_s = 0.0
        self._broker_silent = False
        self._broker_starting = True  # it has not reported yet
        self._begun = False  # frames have been asked for: later errors end the run with 1, not 2
        self._written: dict[str, int] = {}  # by source, the most ever
        self._lost: dict[str, str] = {}  # sources whose capture is not started again: why
        self._stop_reason = ""
        self._elapsed_before_s = 0.0  # in earlier brokers' time
        self._status: int | None = None  # decided: the run is being ended
        self._deadline_s: float | None = None  # when the loop ends at the latest
        self._at_once = False
        self._channel = StageChannel(
            plan.dialed,
            self._name,
            settings.broker.max_message_bytes,
            load_stage_keys(plan.keys_of("supervisor"), "supervisor"),
        )
        self._said_unheard = False
        self._next_beat_s = 0.0

    def run(self) -> int:
        """Run to the end and return the exit status. No child is left. Raises UserError."""
        if self._signals is not None:
            return self._run(self._signals)
        with Signals() as signals:
            return self._run(signals)

    def _run(self, signals: Signals) -> int:
        try:
            self._start_all()
            self._loop(signals)
        finally:
            known = len(signals.received)
            limit_s = self._settings.run.stop_timeout_s if not self._at_once else 0.0
            killed = stop_all(self._children, limit_s, lambda: len(signals.received) > known)
            self._channel.close(linger_ms=0)
        if self._begun and not self._at_once:
            self._on_killed(killed)
        return self._finish()

    @property
    def _name(self) -> str:
        return f"parent-{os.getpid()}"

    @property
    def _finished(self) -> bool:
        return self._report is not None and self._report.finished

    # ----------------------------------------------------------------------------------------- the loop

    def _start_all(self) -> None:
        self._begin_s = time.monotonic()
        self._say_waiting_s = self._begin_s + self._settings.log.status_interval_s
        if self._plan.has_broker:
            check_free(self._plan.address)
            check_free(self._plan.publish, "broker.publish")
        for child in self._children:
            self._start(child)
        if not self._plan.has_broker:
            self._reporter.info(f"works for the broker at {self._plan.address}")
        self._introduce()

    def _start(self, child: ChildProcess) -> None:
        self._restart_at_s.pop(child.name, None)
        self._attendance.started(child.slot)
        child.start()
        if child.plan.role == "broker":
            self._report_s, self._broker_starting = time.monotonic(), True

    def _loop(self, signals: Signals) -> None:
        while any(child.starts and child.name not in self._done for child in self._children):
            self._listen(POLL_MS)
            self._watch_children()
            self._kill_hung()
            self._watch_start()
            self._watch_broker()
            if signals.received:
                self._on_signals(signals.received)
            if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
                return
        self._listen(LAST_REPORT_MS)

    def _on_signals(self, received: list[int]) -> None:
        """The first asks for a clean end, the second ends it at once."""
        status = 128 + received[0]
        if len(received) > 1:
            self._status, self._deadline_s, self._at_once = status, 0.0, True
        elif self._status is None:
            self._stop(status, signal.Signals(received[0]).name)

    def _stop(self, status: int, reason: str) -> None:
        """Ask the broker to end the run; there is a limit to how long it may take."""
        if self._status is not None:
            return
        self._status = status
        if self._report is None or not self._plan.has_broker:
            self._deadline_s = 0.0  # nothing is under way, or the run goes on without this machine
        else:
            self._deadline_s = time.monotonic() + DRAIN_S + self._settings.run.stop_timeout_s
            self._stop_reason = reason
            self._channel.send(StopRequest(reason))

    def _give_up(self, status: int, why: str = "") -> None:
        """End the run now."""
        if why:
            self._reporter.error(why)
        if self._status is None:
            self._status = status
        self._deadline_s = 0.0

    # ---------------------------------------------------------------------------------------- children

    def _on_line(self, child: ChildProcess, text: str) -> None:
        """Pass on what a child says; called from the thread that listens to it.

        One cause gives one line: of the errors of children that never took part only the first is shown, and
        what is said again when a child is started again is not.
        """
        if text.startswith("error: "):
            starting = child.starts == 1 and not self._has_joined(child)
            key = "at the start" if starting else text
            with self._errors_lock:
                if key in self._errors:
                    return
                if len(self._errors) >= MOST_ERRORS:
                    self._errors.clear()  # in a month: they may be said once more
                self._errors |= {key, text}
        self._reporter.line(text)

    def _watch_children(self) -> None:
        now_s, limit_s = time.monotonic(), self._settings.run.start_timeout_s
        for child in self._children:
            if child.name in self._done:
                continue
            if child.name in self._restart_at_s:
                if now_s >= self._restart_at_s[child.name]:
                    self._start(child)
                continue
            status = child.poll()
            if status is not None:
                self._on_end(child, status, now_s)
            elif child.starts > 1 and not self._has_joined(child) and now_s - child.started_s > limit_s:
                child.kill()  # hung before it has said hello: nobody else watches it yet

    def _kill_hung(self) -> None:
        """Those that the broker misses; that they are started again follows from their death."""
        overdue = self._attendance.overdue(time.monotonic())
        for child in self._children:
            if child.slot in overdue and child.poll() is None:
                self._reporter.warning(f"{child.name} hangs and is killed")
                child.kill()

    def _has_joined(self, child: ChildProcess) -> bool:
        """Whether the broker knows its present process."""
        return child.slot in self._attendance.joined

    def _on_end(self, child: ChildProcess, status: int, now_s: float) -> None:
        """A child has ended: as it should, by a start that failed, or by its death."""
        child.close()
        self._listen(0)  # the broker's last report may say that this is the end
        if self._finished or not self._plan.has_broker or child.dismissed:
            if status == 0 or child.dismissed:
                self._done.add(child.name)
                return
        elif status == 0 and now_s - self._ended_s.setdefault(child.name, now_s) < FINISH_S:
            return
        self._ended_s.pop(child.name, None)
        told = status in (2, LATE_STATUS)  # it has said why, and it would say so again
        if status == 2 and child.starts == 1 and not self._has_joined(child):
            self._give_up(2)  # it never took part, though the run may have begun on other machines
        elif told and not child.plan.source and (child.plan.role == "display" or child.starts == 1):
            self._give_up(1)
        elif self._finished:
            self._done.add(child.name)
            self._reporter.warning(f"{child.name} did not end cleanly ({_how(status)})")
            if child.plan.role == "display":  # only its end can leave something incomplete
                self._status = self._status or 1
        elif self._status is not None and child.plan.role == "broker":
            self._deadline_s = 0.0  # nobody is left to end the run in order
        else:
            self._on_death(child, status, now_s)

    def _on_death(self, child: ChildProcess, status: int, now_s: float) -> None:
        """Start it again, after a while; or end its source, or the run, if it has died too often."""
        self._channel.send(Died(child.slot))
        group = child.plan.source or child.plan.role
        delay_s = self._restarts.died(group, child.name, now_s - child.started_s)
        if delay_s is not None:
            when = f"in {delay_s:.1f} s" if delay_s else "now"
            self._reporter.warning(f"{child.name} died ({_how(status)}); it is started again {when}")
            self._restart_at_s[child.name] = now_s + delay_s
            return
        times = f"{self._settings.run.max_restarts} times"
        if child.plan.source and self._begun:
            error = f"{child.plan.source}: its capture process died {times}"
            self._reporter.error(error)
            self._lost[child.plan.source] = error
            self._channel.send(SourceEnded(child.plan.source, 0, 0, error))
            self._done.add(child.name)
        else:
            self._give_up(1, f"{child.plan.role} died {times} without progress")

    def _watch_start(self) -> None:
        """Say what is waited for; give up if a stage of this machine takes too long."""
        now_s = time.monotonic()
        if self._begun or self._status is not None:
            return
        limit_s = self._settings.run.start_timeout_s
        late = [c.name for c in self._awaited if c.plan.role != "broker"]
        answers = self._report is not None or self._plan.has_broker
        if late and answers and now_s - self._begin_s > limit_s:
            self._give_up(2, f"{', '.join(late)} not ready within {limit_s:.0f} s (run.start_timeout_s)")
        elif now_s >= self._say_waiting_s:
            self._say_waiting_s += now_s - self._begin_s  # ever more rarely
            self._reporter.info(f"waiting for {self._waited_for()}")

    @property
    def _awaited(self) -> list[ChildProcess]:
        return [c for c in self._children if not self._has_joined(c)]

    def _waited_for(self) -> str:
        if self._report is None:
            return "the broker" if self._plan.has_broker else f"a broker at {self._plan.address}"
        here = {"broker"} | {peer.role for peer in self._report.peers}
        late = [c.name for c in self._awaited if c.plan.role not in here]
        elsewhere = [
            role for role in self._plan.roles if role not in here | {c.plan.role for c in self._children}
        ]
        return ", ".join(late + elsewhere) or "the other sources"

    # ------------------------------------------------------------------------------------------ broker

    def _introduce(self) -> None:
        self._channel.send(Hello("supervisor", self._name, self._slot, os.getpid(), PROTOCOL))
        # A new broker knows nothing of what its predecessor was told.
        for source, error in self._lost.items():
            self._channel.send(SourceEnded(source, 0, 0, error))
        if self._stop_reason:
            self._channel.send(StopRequest(self._stop_reason))

    def _listen(self, timeout_ms: int) -> None:
        """Take in all messages, waiting for the first; show the broker that this process is there."""
        now_s = time.monotonic()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + HEARTBEAT_S
            self._channel.send(Heartbeat())
        try:
            received = self._channel.receive(timeout_ms)
            while received is not None:
                self._on_message(received[0])
                received = self._channel.receive(0)
        except MessageError as error:
            self._reporter.warning(f"a message of the broker can't be read and is dropped: {error}")
        except UserError as error:  # our key is refused
            self._give_up(1 if self._begun else 2, str(error))
        if self._channel.failed_handshakes >= UNHEARD and not self._said_unheard:
            self._said_unheard = True
            self._reporter.warning(
                f"whoever is at {self._plan.dialed} does not prove to be the broker: is "
                f"{self._plan.keys}/broker.public the broker's? It is tried again and again"
            )

    def _on_message(self, message: AnyMessage) -> None:
        match message:
            case Introduce():
                self._introduce()
            case Refused(reason):
                self._give_up(2, reason)
            case StatusReport():
                self._on_report(message)

    def _on_report(self, report: StatusReport) -> None:
        if self._report is None and self._plan.has_broker:
            self._reporter.info(f"results are published at {self._plan.publish}")
            if self._plan.keys and not self._settings.security.keys:
                self._reporter.info(
                    f"keys for other programs of this user, subscriber.secret among them: {self._plan.keys}"
                )
        if self._broker_silent:
            self._broker_silent = False
            self._reporter.info("the broker is back")
        if report.started and not self._begun:
            self._begun = True
            self._reporter.info("all stages are ready")
        if self._report is None or report.broker != self._report.broker:
            self._broker_starting = False  # it is not an earlier one's last word
            self._elapsed_before_s += self._report.elapsed_s if self._report is not None else 0.0
        self._report, self._report_s = report, time.monotonic()
        # Those of other machines come and go under ever new slots.
        here = [peer for peer in report.peers if peer.slot in self._slots]
        self._attendance.hear(msgspec.structs.replace(report, peers=here), self._report_s)
        written = {source.name: source.progress.written for source in report.sources}
        # More than ever: a new broker begins by hearing of what was written.
        grown = {name for name, count in written.items() if count > self._written.get(name, 0)}
        if grown:
            self._written |= {name: written[name] for name in grown}
            self._restarts.progressed(grown, {source.name for source in self._plan.sources})
        if report.stopping and self._plan.has_broker:
            self._stop(0, report.stopping)  # `q` in the window
        if report.finished:
            self._on_finished()
        self._reporter.update(report)
        if self._observer is not None:
            self._observer(report, {child.name: child.pid for child in self._children if child.starts})

    def _on_finished(self) -> None:
        """Everything is written: stages leave by themselves, those that are not ready yet are dismissed."""
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._settings.run.stop_timeout_s
        self._done |= set(self._restart_at_s)
        self._restart_at_s.clear()
        for child in self._children:
            if child.plan.role != "broker" and not self._has_joined(child) and not child.dismissed:
                child.terminate()

    def _watch_broker(self) -> None:
        """A broker of ours that has fallen silent is killed, that it is then restarted follows; one on
        another machine is waited for."""
        silent_s = time.monotonic() - self._report_s
        limit_s = BROKER_START_S if self._broker_starting else self._settings.broker.peer_timeout_s
        if self._report is None or self._finished or self._broker_silent or silent_s <= limit_s:
            return
        if not self._plan.has_broker:
            self._broker_silent = True
            self._reporter.warning(f"the broker has been silent for {silent_s:.0f} s; it is waited for")
            return
        broker = next(child for child in self._children if child.plan.role == "broker")
        if broker.poll() is None and broker.name not in self._restart_at_s:
            self._reporter.warning(f"the broker has been silent for {silent_s:.0f} s and is killed")
            broker.kill()
            self._report_s = time.monotonic()

    # ------------------------------------------------------------------------------------------ the end

    def _on_killed(self, children: list[ChildProcess]) -> None:
        """Say which ones had to be killed; only display can leave something incomplete."""
        for child in children:
            self._reporter.warning(f"{child.name} did not end in time and was killed")
            if child.plan.role == "display":
                self._status = self._status or 1

    def _finish(self) -> int:
        """Print the summary and settle the exit status."""
        self._reporter.close()
        sources = self._report.sources if self._report is not None else []
        if sources and self._begun:
            elapsed_s = self._elapsed_before_s + (self._report.elapsed_s if self._report is not None else 0.0)
            try:
                print_summary(summary(sources, self._reporter.rates, elapsed_s))
            except LateError as error:
                self._reporter.error(str(error))
                self._status = self._status or 1
        failed = sum(source.progress.failed for source in sources)
        if failed:
            noun = "frame" if failed == 1 else "frames"
            self._reporter.warning(f"{failed} {noun} failed; the results say why")
        if self._status is not None:
            return self._status or bool(self._reporter.lost)
        return 1 if self._reporter.lost or any(source.error for source in sources) else 0


def _how(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
