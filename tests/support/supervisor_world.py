"""A supervisor without processes and sockets: what happens is told to it, and what it does is looked at."""

from pathlib import Path
from typing import Any

from pipeline.broker.spec import BROKER
from pipeline.config.schema import PipelineSettings, Settings
from pipeline.config.sources import SourceSpec
from pipeline.supervisor.plan import make_plan
from pipeline.supervisor.supervisor import (
    KillChild,
    LogLine,
    Send,
    StartChild,
    Supervisor,
    TerminateChild,
)
from pipeline.wire.messages import Committed, Message, PeerReport, SourceReport, StatusReport
from stages.detect.spec import DetectSettings
from stages.stage import STAGES
from tests.support.broker_world import make_report

START_S = 1000.0
SOURCE = "clip"
EVERY_ROLE = frozenset(spec.role for spec in (BROKER, *STAGES))


def make_source_report(written: int = 0, **changes: Any) -> SourceReport:
    fields = {"captured": written, "in_flight": 0, "committed": Committed(written, written)}
    fields |= {"ended": False, "error": ""} | changes
    return SourceReport(SOURCE, "file", **fields)


class World:
    """A run with two detectors and a source. Of what it does, each list holds what was not yet looked at."""

    def __init__(self, *tables: Settings, only: frozenset[str] | None = None, placed: bool = False) -> None:
        """`placed`: an engine chooses the machines of the detectors, of which there is one at first."""
        settings = PipelineSettings(DetectSettings(workers=2), *tables)
        sources = [SourceSpec(SOURCE, "video", SOURCE)]
        plan = make_plan((BROKER, *STAGES), settings, sources, only or EVERY_ROLE, Path("run"))
        instances = {process.name: f"run/{process.name}" for process in plan.processes}
        if placed:
            detectors = frozenset(one.name for one in plan.processes if one.role == "detect")
            plan = plan._replace(placed=detectors, least={"detect": 1})
        self.now_s = START_S
        self.supervisor = Supervisor(settings, plan, instances, self.now_s)
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.killed: list[str] = []
        self.sent: list[Message] = []
        self.lines: list[str] = []
        self.names = list(instances)
        self.last: StatusReport | None = None
        self.drain()

    def drain(self) -> None:
        for action in self.supervisor.drain():
            match action:
                case StartChild(name):
                    self.started.append(name)
                case TerminateChild(name):
                    self.stopped.append(name)
                case KillChild(name):
                    self.killed.append(name)
                case Send(message):
                    self.sent.append(message)
                case LogLine(level, text):
                    self.lines.append(text if level in ("info", "child") else f"{level}: {text}")

    def take(self, name: str) -> list[Any]:
        """Return what one of the lists holds, and empty it."""
        found = list(getattr(self, name))
        getattr(self, name).clear()
        return found

    def pass_time(self, seconds: float = 0.0) -> None:
        """Let time pass, then let the supervisor do all that is due."""
        self.now_s += seconds
        self.supervisor.tick(self.now_s)
        while self.supervisor.starts_now(self.now_s) and not self.over:
            self.supervisor.tick(self.now_s)
        self.drain()

    def report(self, *present: str, others: list[PeerReport] | None = None, **changes: Any) -> None:
        """Let the broker report that these processes of the run, and other peers, take part."""
        peers = [self.peer(name) for name in present] + (others or [])
        self.last = make_report(**{"peers": peers, "started": False} | changes)
        self.supervisor.receive(self.last, self.now_s)
        self.pass_time()

    def wait(self, seconds: float) -> None:
        """Let time pass in which the broker reports the same again and again."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s = min(until_s, self.now_s + 0.5)
            if self.last is not None:
                self.supervisor.receive(self.last, self.now_s)
            self.pass_time()

    def peer(self, name: str, **changes: Any) -> PeerReport:
        role: Any = name.partition("-")[0]
        fields = {"instance": f"run/{name}", "silent_s": 0.1, "timed_out": False} | changes
        return PeerReport(name=name, role=role, **fields)

    def end(self, name: str, status: int, *, after_s: float = 0.0) -> None:
        """Let a process end, with an exit status or by a signal (negative)."""
        self.wait(after_s)
        self.supervisor.child_ended(name, status, self.now_s)
        self.pass_time()

    def begin(self, **changes: Any) -> None:
        """Start all processes and let frames flow."""
        self.pass_time()
        self.report(*self.stages, **{"started": True, "sources": [make_source_report()]} | changes)
        for name in ("started", "sent", "lines"):
            self.take(name)

    @property
    def stages(self) -> list[str]:
        return [name for name in self.names if name != "broker"]

    @property
    def over(self) -> bool:
        return self.supervisor.over(self.now_s)

    @property
    def status(self) -> int | None:
        return self.supervisor.ending.status
