"""The supervisor's decisions: which processes to start, kill and restart, and how the run ends.

A state machine like the broker's: events and the time go in, actions come out with `drain`. `runner` has the
sockets, processes and the clock.
"""

import signal
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec.structs import replace

from pipeline.config.schema import DRAIN_S, PipelineSettings
from pipeline.config.stage import ProcessPlan
from pipeline.supervisor.child_main import LATE_STATUS
from pipeline.supervisor.plan import RunPlan
from pipeline.supervisor.scaling import Scaler
from pipeline.supervisor.watchdog import Restarts, Watchdog
from pipeline.wire.messages import (
    Died,
    Message,
    PeerReport,
    RequestHello,
    SourceEnded,
    SourceReport,
    StatusReport,
    StopRequest,
)

FINISH_S: Final = 1.0
"""A stage may end this long before the report arrives that the run has finished."""

BROKER_START_S: Final = 15.0
"""How long a broker may take to its first report, on a busy machine."""

FAILED_HANDSHAKES: Final = 3
"""A broker that dies causes one; this many in a row mean that the other end has another key."""

SILENT_S: Final = 3.0
"""A role whose processes have all been silent for this long is reported as what the run waits for."""

MAX_ERRORS: Final = 100
"""Error lines that are remembered, so that they are not repeated."""


@dataclass(frozen=True, slots=True)
class StartChild:
    name: str


@dataclass(frozen=True, slots=True)
class TerminateChild:
    name: str


@dataclass(frozen=True, slots=True)
class KillChild:
    name: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to the broker."""

    message: Message


@dataclass(frozen=True, slots=True)
class LogLine:
    level: Literal["info", "warning", "error", "child"]  # child: printed as it is
    text: str


Action = StartChild | TerminateChild | KillChild | Send | LogLine


@dataclass(eq=False, slots=True)
class ChildState:
    """A planned process and its state."""

    plan: ProcessPlan
    instance: str
    phase: Literal["waiting", "running", "ended", "done"] = "waiting"  # done: it is not started (again)
    start_at_s: float = 0.0  # while it waits
    starts: int = 0
    started_s: float = 0.0
    exit_status: int = 0  # of an ended one; negative: the signal that killed it
    ended_s: float = 0.0
    dismissed: bool = False  # it was terminated on purpose


@dataclass(slots=True)
class BrokerView:
    """What is known of the broker and, from its reports, of the run."""

    report: StatusReport | None = None
    report_s: float = 0.0  # when the last report came, or the broker was started
    starting: bool = True  # this broker has not reported yet
    silent: bool = False
    begun: bool = False  # frames flow: errors from now on end the run with status 1, not 2
    elapsed_before_s: float = 0.0  # the time of earlier brokers
    offsets: dict[str, int] = field(default_factory=dict)  # by source, the highest
    others: set[str] = field(default_factory=set)  # stages of other supervisors
    key_mismatch: bool = False


@dataclass(slots=True)
class Ending:
    """How and when the run ends."""

    status: int | None = None  # once the run is being ended
    deadline_s: float | None = None  # when the loop ends
    reason: str = ""  # why the broker was asked to stop
    signals: list[int] = field(default_factory=list)
    at_once: bool = False


class Supervisor:
    """The state machine of one run on this machine."""

    def __init__(
        self, settings: PipelineSettings, plan: RunPlan, instances: Mapping[str, str], now_s: float
    ) -> None:
        """`instances`: by name of the process, the secret id by which the broker knows it."""
        self._settings = settings
        self._plan = plan
        self.children = {p.name: ChildState(p, instances[p.name], start_at_s=now_s) for p in plan.processes}
        self.broker = BrokerView()
        self.ending = Ending()
        away = [one for name, one in instances.items() if name in plan.placed or not plan.has_broker]
        self._watchdog = Watchdog(settings.broker.peer_timeout_s, away)
        self._restarts = Restarts(settings.run.max_restarts)
        self._lost_sources: dict[str, str] = {}  # source -> why its capture is not restarted
        self._errors: deque[str] = deque(maxlen=MAX_ERRORS)  # lines that children have written
        self._begin_s = now_s
        self._next_waiting_s = now_s + settings.log.status_interval_s
        self._ready = False
        self._actions: list[Action] = []
        self._scalers = self._make_scalers()
        if not plan.has_broker:
            self._log("info", f"works for the broker at {plan.address}")

    def drain(self) -> list[Action]:
        """Take the actions, in their order."""
        actions, self._actions = self._actions, []
        return actions

    # ------------------------------------------------------------------------------------------- events

    def tick(self, now_s: float) -> None:
        """Decide what is due. At most one child is started, so that signals are handled in between."""
        for child in self.children.values():
            if child.phase == "ended":
                self._judge_end(child, now_s)
        self._kill_hung(now_s)
        self._watch_start(now_s)
        self._watch_broker(now_s)
        due = next((child for child in self.children.values() if self._due(child, now_s)), None)
        if due is not None and not self.over(now_s):
            self._start(due, now_s)

    def receive(self, message: Message, now_s: float) -> None:
        """Handle a message of the broker; the session handles those about hello."""
        match message:
            case RequestHello():  # a new broker must be sent what its predecessor was
                for source, error in self._lost_sources.items():
                    self._send(SourceEnded(source, 0, 0, error))
                if self.ending.reason:
                    self._send(StopRequest(self.ending.reason))
            case StatusReport():
                self._on_report(message, now_s)

    def child_ended(self, name: str, status: int, now_s: float) -> None:
        """A process has ended; a negative status is a signal. `tick` decides what follows."""
        child = self.children[name]
        child.phase, child.exit_status, child.ended_s = "ended", status, now_s

    def child_lost(self, name: str, now_s: float) -> None:
        """A process was lost with its machine, which does not count as a death; it is restarted elsewhere."""
        child = self.children[name]
        self._send(Died(child.instance))
        if child.dismissed or self.finished or self.ending.status is not None:
            child.phase = "done"
            return
        self._log("warning", f"{name} is lost with its machine; it is started again elsewhere")
        child.phase, child.start_at_s = "waiting", now_s

    def child_unplaced(self, name: str, now_s: float) -> None:
        """A process still waits for a machine: its start counts from when it gets one."""
        self.children[name].started_s = now_s

    def child_line(self, name: str, text: str) -> None:
        """Log a line that a child has written.

        One cause gives one error line: of children that never joined only the first error is shown, and no
        restarted process repeats one.
        """
        if text.startswith("error: "):
            child = self.children[name]
            key = "at the start" if child.starts == 1 and not self._has_joined(child) else text
            if key in self._errors:
                return
            self._errors += {key, text}
        self._log("child", text)

    def refused(self, reason: str) -> None:
        """The broker refuses this supervisor or its key, or a process can't be started: end the run."""
        self._give_up(1 if self.broker.begun else 2, reason)

    def handshakes_failed(self, count: int) -> None:
        """`count` handshakes with the broker have failed in a row."""
        if count >= FAILED_HANDSHAKES and not self.broker.key_mismatch:
            self.broker.key_mismatch = True
            expected = f"{self._plan.keys}/broker.public"
            self._log("warning", f"{self._plan.dialed}: broker key mismatch (expected {expected}); retrying")

    def signal(self, number: int, now_s: float) -> None:
        """The first signal asks for a clean end, the second ends the run at once."""
        ending = self.ending
        ending.signals.append(number)
        status = 128 + ending.signals[0]
        if len(ending.signals) > 1:
            ending.status, ending.deadline_s, ending.at_once = status, 0.0, True
        else:
            self._stop(status, signal.Signals(number).name, now_s)

    def killed(self, names: list[str]) -> None:
        """These children did not end in time and were killed."""
        for name in names if self.broker.begun and not self.ending.at_once else ():
            self._log("warning", f"{name} did not end in time and was killed")
            self._incomplete(self.children[name])

    # --------------------------------------------------------------------------------------------- state

    def over(self, now_s: float) -> bool:
        """Whether the loop is to end."""
        deadline_s = self.ending.deadline_s
        return self.all_done or (deadline_s is not None and now_s >= deadline_s)

    @property
    def all_done(self) -> bool:
        return all(child.phase == "done" for child in self.children.values())

    def starts_now(self, now_s: float) -> bool:
        """Whether the next `tick` starts a child."""
        return any(self._due(child, now_s) for child in self.children.values())

    @property
    def joined(self) -> bool:
        """Whether the broker is known, and all processes of this machine are known to it."""
        return self.broker.report is not None and not any(map(self._awaited, self.children.values()))

    @property
    def finished(self) -> bool:
        """Whether the record of every frame is written."""
        return self.broker.report is not None and self.broker.report.finished

    @property
    def sources(self) -> list[SourceReport]:
        return self.broker.report.sources if self.broker.report is not None else []

    @property
    def elapsed_s(self) -> float:
        """The time from the first frame to the last record, over all brokers."""
        return self.broker.elapsed_before_s + (self.broker.report.elapsed_s if self.broker.report else 0.0)

    def waiting_for(self) -> str:
        """Return what the run needs to go on; "" if nothing is missing."""
        report = self.broker.report
        if report is None:
            return "the broker" if self._plan.has_broker else f"a broker at {self._plan.address}"
        heard = {"broker"} | {p.role for p in report.peers if not p.timed_out and p.silent_s < SILENT_S}
        if report.sources and all(source.ended for source in report.sources):
            heard.add("capture")
        missing = []
        for role in self._plan.roles:
            own = [child for child in self.children.values() if child.plan.role == role]
            late = [c.plan.name for c in own if c.phase != "done" and not self._has_joined(c)]
            if role not in heard:
                missing += late or [c.plan.name for c in own if c.phase != "done"] or [role]
            elif role == "capture":
                missing += late
        return ", ".join(missing)

    def exit_status(self, incomplete: bool) -> int:
        """Return the status of the run; `incomplete`: its summary could not be printed."""
        failed = sum(source.committed.failed for source in self.sources)
        if failed:
            noun = "frame" if failed == 1 else "frames"
            self._log("warning", f"{failed} {noun} failed; the results say why")
        status = self.ending.status
        cut_short = status is None and any(source.error for source in self.sources)
        return status or int(incomplete or cut_short)

    # ------------------------------------------------------------------------------------------ children

    def _due(self, child: ChildState, now_s: float) -> bool:
        return child.phase == "waiting" and now_s >= child.start_at_s

    def _start(self, child: ChildState, now_s: float) -> None:
        self._watchdog.started(child.instance)
        child.phase, child.started_s, child.dismissed = "running", now_s, False
        child.starts += 1
        if child.plan.role == "broker":
            self.broker.report_s, self.broker.starting = now_s, True
        self._actions.append(StartChild(child.plan.name))

    def _make_scalers(self) -> dict[str, Scaler]:
        """Return the autoscalers of roles; processes beyond their minimum wait until they are needed."""
        ray = self._settings.ray
        scalers = {}
        for role, least in self._plan.least.items():
            own = [child for child in self.children.values() if child.plan.role == role]
            for child in own[least:]:
                child.phase = "done"
            scalers[role] = Scaler(role, least, len(own), ray.target_age_ms / 1e3, ray.idle_s)
        return scalers

    def _scale(self, report: StatusReport, now_s: float) -> None:
        """Start a process of a role whose work waits, or stop one that is not needed."""
        for role, scaler in self._scalers.items():
            own = [child for child in self.children.values() if child.plan.role == role]
            running = [child for child in own if child.phase != "done" and not child.dismissed]
            ready = sum(self._has_joined(child) and child.phase == "running" for child in running)
            wanted = scaler.receive(report, len(running), ready, now_s)
            if wanted > len(running):
                spare = next((child for child in own if child.phase == "done"), None)
                if spare is not None:
                    spare.phase, spare.start_at_s = "waiting", now_s
                    self._log("info", f"{spare.plan.name} is added: {role} is late")
            elif wanted < len(running):
                self._log("info", f"{running[-1].plan.name} is taken away: {role} is idle")
                self._dismiss(running[-1])

    def _dismiss(self, child: ChildState) -> None:
        """Terminate a process, which does not count as a death."""
        if child.phase == "waiting":
            child.phase = "done"
        elif child.phase == "running" and not child.dismissed:
            child.dismissed = True
            self._actions.append(TerminateChild(child.plan.name))

    def _kill_hung(self, now_s: float) -> None:
        """Kill processes that hang, before their hello too; they are restarted when they have ended."""
        overdue = self._watchdog.overdue(now_s)
        latest_s = now_s - self._settings.run.start_timeout_s  # an earlier start should have joined
        for child in self.children.values():
            replaces = child.starts > 1 or self.broker.begun  # otherwise `_watch_start` ends the run
            if child.phase != "running":
                continue
            if child.instance in overdue:
                self._log("warning", f"{child.plan.name} hangs and is killed")
                self._actions.append(KillChild(child.plan.name))
            elif replaces and self._awaited(child) and child.started_s < latest_s:
                self._actions.append(KillChild(child.plan.name))

    def _has_joined(self, child: ChildState) -> bool:
        """Whether its present process has said hello."""
        return child.instance in self._watchdog.joined

    def _awaited(self, child: ChildState) -> bool:
        """Whether its hello is awaited; the broker itself says none."""
        return child.plan.role != "broker" and child.phase != "done" and not self._has_joined(child)

    def _judge_end(self, child: ChildState, now_s: float) -> None:
        """Decide what the end of a child is: in order, a failed start, or a death."""
        status, first = child.exit_status, child.starts == 1
        if child.dismissed or (status == 0 and (self.finished or not self._plan.has_broker)):
            child.phase = "done"
            return
        if status == 0 and now_s - child.ended_s < FINISH_S:
            return
        child.phase = "done"
        explained = status in (2, LATE_STATUS)  # it has logged why; a restart would fail again
        if status == 2 and first and not self._has_joined(child):
            self._give_up(2)  # a failed start, though the run may have begun on other machines
        elif explained and not child.plan.source and (child.plan.role == "display" or first):
            self._give_up(1)
        elif self.finished:
            self._log("warning", f"{child.plan.name} did not end cleanly ({_cause(status)})")
            self._incomplete(child)
        elif self.ending.status is not None and child.plan.role == "broker":
            self.ending.deadline_s = 0.0  # no broker is left to end the run in order
        else:
            self._on_death(child, now_s)

    def _on_death(self, child: ChildState, now_s: float) -> None:
        """Restart it after a delay, or end its source or the run if it has died too often."""
        self._send(Died(child.instance))
        name, source = child.plan.name, child.plan.source
        delay_s = self._restarts.died(source or child.plan.role, name, child.ended_s - child.started_s)
        if delay_s is not None:
            when = f"in {delay_s:.1f} s" if delay_s else "now"
            self._log("warning", f"{name} died ({_cause(child.exit_status)}); it is started again {when}")
            child.phase, child.start_at_s = "waiting", now_s + delay_s
            return
        times = f"{self._settings.run.max_restarts} times"
        if source and self.broker.begun:
            error = f"{source}: its capture process died {times}"
            self._log("error", error)
            self._lost_sources[source] = error
            self._send(SourceEnded(source, 0, 0, error))
        else:
            self._give_up(1, f"{child.plan.role} died {times} without progress")

    # ------------------------------------------------------------------------------------------ the start

    def _watch_start(self, now_s: float) -> None:
        """Log what the run waits for; end it if a stage of this machine takes too long."""
        if self._ready or self.ending.status is not None:
            return
        awaited = [child.plan.name for child in self.children.values() if self._awaited(child)]
        if self.broker.begun and not awaited:
            self._ready = True
            self._log("info", "all stages are ready")
            return
        limit_s = self._settings.run.start_timeout_s
        answers = self.broker.report is not None or self._plan.has_broker
        if awaited and answers and not self.broker.begun and now_s - self._begin_s > limit_s:
            late = ", ".join(awaited)
            self._give_up(2, f"{late} not ready within {limit_s:.0f} s (run.start_timeout_s)")
        elif now_s >= self._next_waiting_s:
            self._next_waiting_s += now_s - self._begin_s  # less and less often
            self._log(
                "info", f"waiting for {self.waiting_for() or ', '.join(awaited) or 'the other sources'}"
            )

    # ------------------------------------------------------------------------------------------ the broker

    def _on_report(self, report: StatusReport, now_s: float) -> None:
        broker, earlier = self.broker, self.broker.report
        if earlier is None and self._plan.has_broker:
            self._log("info", f"results are published at {self._plan.publish}")
            if self._plan.keys and not self._settings.security.keys:
                self._log(
                    "info",
                    f"keys for other programs of this user, subscriber.secret among them: {self._plan.keys}",
                )
        if broker.silent:
            broker.silent = False
            self._log("info", "the broker is back")
        if earlier is None or report.broker != earlier.broker:
            broker.starting = False  # this report is not the earlier broker's last
            broker.elapsed_before_s += earlier.elapsed_s if earlier is not None else 0.0
            broker.others = set()  # which join the new one
        broker.begun |= report.started
        broker.report, broker.report_s = report, now_s
        instances = {child.instance for child in self.children.values()}
        here = [peer for peer in report.peers if peer.instance in instances]
        self._watchdog.receive(replace(report, peers=here), now_s)
        if self._plan.has_broker and not report.finished:
            self._announce_others([peer for peer in report.peers if peer.instance not in instances])
        self._note_progress(report)
        if not report.finished and not report.stopping and self.ending.status is None:
            self._scale(report, now_s)
        if report.stopping and self._plan.has_broker:
            self._stop(0, report.stopping, now_s)  # `q` in the window
        if report.finished:
            self._on_finished(now_s)

    def _announce_others(self, peers: list[PeerReport]) -> None:
        """Log which stages of other supervisors have joined or left; the broker logs those that time out."""
        present = {peer.name for peer in peers if not peer.timed_out}
        for name in sorted(present - self.broker.others):
            self._log("info", f"{name} has joined")
        for name in sorted(self.broker.others - {peer.name for peer in peers}):
            self._log("info", f"{name} has left")
        self.broker.others = present

    def _note_progress(self, report: StatusReport) -> None:
        """Forget deaths where frames have been written since; a new broker's offsets don't start at 0."""
        offsets = {source.name: source.committed.offset for source in report.sources}
        grown = {name for name, count in offsets.items() if count > self.broker.offsets.get(name, 0)}
        if grown:
            self.broker.offsets |= {name: offsets[name] for name in grown}
            self._restarts.progressed(grown, {source.name for source in self._plan.sources})

    def _on_finished(self, now_s: float) -> None:
        """The run is over: stages end by themselves; those that have not joined are terminated."""
        if self.ending.deadline_s is None:
            self.ending.deadline_s = now_s + self._settings.run.stop_timeout_s
        for child in self.children.values():
            if child.phase == "waiting" or self._awaited(child):
                self._dismiss(child)

    def _watch_broker(self, now_s: float) -> None:
        """Kill a silent broker of this machine, so that it is restarted; wait for a remote one."""
        broker = self.broker
        silent_s = now_s - broker.report_s
        limit_s = BROKER_START_S if broker.starting else self._settings.broker.peer_timeout_s
        if broker.report is None or self.finished or broker.silent or silent_s <= limit_s:
            return
        if not self._plan.has_broker:
            broker.silent = True
            self._log("warning", f"the broker has been silent for {silent_s:.0f} s; waiting for it")
            return
        child = next(child for child in self.children.values() if child.plan.role == "broker")
        if child.phase == "running":
            self._log("warning", f"the broker has been silent for {silent_s:.0f} s and is killed")
            self._actions.append(KillChild(child.plan.name))
            broker.report_s = now_s

    # --------------------------------------------------------------------------------------------- the end

    def _stop(self, status: int, reason: str, now_s: float) -> None:
        """Ask the broker to end the run, and set a deadline."""
        ending = self.ending
        if ending.status is not None:
            return
        ending.status = status
        if self.broker.report is None or not self._plan.has_broker:
            ending.deadline_s = 0.0  # nothing is under way, or the run continues without this machine
        else:
            ending.deadline_s = now_s + DRAIN_S + self._settings.run.stop_timeout_s
            ending.reason = reason
            self._send(StopRequest(reason))

    def _give_up(self, status: int, why: str = "") -> None:
        """End the run now."""
        if why:
            self._log("error", why)
        if self.ending.status is None:
            self.ending.status = status
        self.ending.deadline_s = 0.0

    def _incomplete(self, child: ChildState) -> None:
        """A child did not end in order: only display's outputs can be incomplete then."""
        if child.plan.role == "display":
            self.ending.status = self.ending.status or 1

    def _send(self, message: Message) -> None:
        self._actions.append(Send(message))

    def _log(self, level: Literal["info", "warning", "error", "child"], text: str) -> None:
        self._actions.append(LogLine(level, text))


def _cause(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
