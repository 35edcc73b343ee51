"""The state of a run: who takes part, what is under way, and what is to be sent."""

import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from numpy.typing import NDArray

from pipeline.broker.ledger import PendingFrame, SourceLedger
from pipeline.broker.peers import Liveness, Peer, Peers
from pipeline.broker.queues import FrameQueue, ItemQueue
from pipeline.broker.spec import BrokerRules
from pipeline.wire.messages import (
    MAX_LATENCIES,
    MAX_SOURCES,
    MAX_WINDOW,
    Buffer,
    Committed,
    Hello,
    Message,
    PeerReport,
    Role,
)

Check = Callable[[Mapping[str, NDArray[Any]]], str]
"""Says what is wrong with the arrays of a result; "" if nothing is."""

OBSERVERS: Final = ("supervisor", "web")
"""Roles that are sent the reports. They are given no work."""


class Unheard(NamedTuple):
    """A remote worker that fell silent; whether it has died is not known."""

    identity: bytes
    alone: list[tuple[str, int]]  # source and number of the frames that it had alone


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent to one peer."""

    identity: bytes
    message: Message
    buffers: Sequence[Buffer] = ()


@dataclass(slots=True)
class Outbox:
    """What is to be sent, published, logged and reported."""

    outgoing: list[Outgoing] = field(default_factory=list)
    records: list[Buffer] = field(default_factory=list)  # to publish
    log_lines: list[str] = field(default_factory=list)
    timed_out: list[PeerReport] = field(default_factory=list)  # since the last report
    next_report_ns: int = 0


@dataclass(slots=True)
class Lifetime:
    """The phases of a run, from waiting for its stages to its end."""

    started: bool = False
    started_ns: int = 0
    last_commit_ns: int = 0
    stopping: str = ""  # why it is being stopped
    stop_deadline_ns: int = 0
    ended_sources: set[str] = field(default_factory=set)
    finished: bool = False
    rejoin_until_ns: int | None = None


class Metrics:
    """Counts since the start, and the latencies since the last report."""

    def __init__(self) -> None:
        self.steps: Counter[Role] = Counter()  # frames
        self.busy_ns: Counter[Role] = Counter()  # time in the steps
        self.batches: Counter[int] = Counter()  # items in a batch -> how often
        self.deliveries = 0  # outcomes sent to display
        self.bad_messages = 0
        self._latency_ns: list[int] = []
        self._reported_ns: int | None = None

    def step(self, role: Role, frames: int, busy_ns: int) -> None:
        self.steps[role] += frames
        self.busy_ns[role] = min(self.busy_ns[role] + busy_ns, 2**62)  # as much as a message holds

    def add_latencies(self, latency_ns: list[int]) -> None:
        self._latency_ns.extend(latency_ns[: MAX_LATENCIES - len(self._latency_ns)])

    def take(self, now_ns: int) -> tuple[float, list[int]]:
        """Return seconds since the last call, and the latencies added since then."""
        interval_s = 0.0 if self._reported_ns is None else (now_ns - self._reported_ns) / 1e9
        latency_ns, self._latency_ns, self._reported_ns = self._latency_ns, [], now_ns
        return interval_s, latency_ns


class State:
    """Changed by the functions of membership, handlers and dispatch."""

    def __init__(self, name: str, rules: BrokerRules) -> None:
        self.name = name
        self.rules = rules
        self.peers = Peers()
        self.ledgers: dict[str, SourceLedger] = {}
        self.known: dict[str, Committed] = {}  # by source whose capture has not joined yet
        self.fingerprints: dict[str, str] = {}  # role -> the model that its workers must have
        self.frame_queue = FrameQueue(rules.settings.file_share)
        self.item_queues = {step.role: ItemQueue(step) for step in rules.steps[1:]}
        self.checks: dict[str, Check] = {
            step.role: pkgutil.resolve_name(step.check) for step in rules.steps if step.check
        }
        self.metrics = Metrics()
        self.liveness = Liveness(round(rules.settings.peer_timeout_s * 1e9))
        self.lifetime = Lifetime()
        self.unheard: dict[str, Unheard] = {}  # by instance
        self.outbox = Outbox()
        self.hidden = frozenset(array.name for step in rules.steps for array in step.gives if not array.shown)

    @property
    def frame_step(self) -> str:
        """The role of the step that takes frames."""
        return self.rules.steps[0].role

    @property
    def worker_roles(self) -> list[str]:
        return [step.role for step in self.rules.steps]

    def send(self, identity: bytes, message: Message, buffers: Sequence[Buffer] = ()) -> None:
        self.outbox.outgoing.append(Outgoing(identity, message, buffers))

    def log(self, line: str) -> None:
        self.outbox.log_lines.append(line)

    @property
    def held_bytes(self) -> int:
        return sum(ledger.held_bytes for ledger in self.ledgers.values())

    def remote_supervisor_of(self, peer: Peer) -> Peer | None:
        """The supervisor on another machine that has started a peer."""
        supervisors = (s for s in self.peers.of("supervisor") if s.hello.instance != self.rules.owner)
        return next((s for s in supervisors if is_child(peer.hello.instance, s.hello.instance)), None)

    def workers_of(self, supervisor: Peer) -> list[Peer]:
        """The workers that are lost with a supervisor: it and they are on another machine."""
        workers = [worker for role in self.worker_roles for worker in self.peers.of(role)]
        return [worker for worker in workers if self.remote_supervisor_of(worker) is supervisor]

    def admits(self, source: str) -> bool:
        """Whether this run has or may have a source of that name."""
        if self.rules.sources is not None:
            return source in self.rules.sources
        return source in self.ledgers or len({*self.ledgers, *self.known, source}) <= MAX_SOURCES

    def share_bytes(self) -> int:
        """How much each source that has not ended may hold."""
        return self.rules.settings.max_bytes // max(1, sum(not led.complete for led in self.ledgers.values()))

    def has_room(self, ledger: SourceLedger, size: int) -> bool:
        """Whether `size` more bytes may be held: each source has a share, which a single frame may exceed."""
        if not size:
            return True
        fits = not ledger.held_bytes or ledger.held_bytes + size <= self.share_bytes()
        return fits and self.held_bytes <= self.rules.settings.max_bytes

    def window(self, ledger: SourceLedger) -> int:
        """How many frames of a source may be without a written record."""
        return MAX_WINDOW if ledger.info.kind == "live" else self.rules.settings.file_window

    def resolve(self, frame: PendingFrame, status: Literal["dropped", "failed"], reason: str) -> None:
        """Give a frame its outcome, and remove it from the queues."""
        self.frame_queue.remove(frame)
        for queue in self.item_queues.values():
            queue.remove(frame)
        self.ledgers[frame.source].resolve(frame, status, reason)


def is_child(instance: str, supervisor_instance: str) -> bool:
    """Whether a process was started by the supervisor that has `supervisor_instance`, a secret of theirs."""
    return instance.startswith(f"{supervisor_instance}/")


def source_of(hello: Hello) -> str:
    """The source that a capture's hello names; empty for other roles."""
    return hello.source.name if hello.source else ""
