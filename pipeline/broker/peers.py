"""The stages that the broker knows, what each of them holds, and how long each may be silent."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.broker.ledger import PendingFrame
from pipeline.broker.queues import ItemRange
from pipeline.wire.messages import Heartbeat, Hello, Role

MAX_REQUESTED: Final = 1024
"""Unknown peers that are remembered: those that were requested to say hello last."""


@dataclass(eq=False, slots=True)
class Job:
    """Work that a worker has: a frame, or items of one or more frames."""

    pieces: list[ItemRange]  # each of another frame
    units: int  # what the duration of the step is proportional to: items, or pixels of the frame
    sent_ns: int
    alone: bool  # a quarantined frame is tried again

    @property
    def frames(self) -> list[PendingFrame]:
        return [piece.frame for piece in self.pieces]


@dataclass(eq=False, slots=True)
class Peer:
    """A stage that has said hello."""

    identity: bytes
    hello: Hello
    last_seen_ns: int
    heartbeat: Heartbeat | None = None  # the last one, with a remote stage's clock offset
    key: str | None = None  # name of its CURVE key; None over ipc
    jobs: dict[int, Job] = field(default_factory=dict)  # by the number of the work
    deliveries: dict[tuple[str, int], int] = field(default_factory=dict)  # (source, sequence): when sent, ns
    granted: int = 0  # capture: frames that it may still send
    accepted: bool = False
    put_off: bool = False  # capture: until there is room again
    moved_ns: int = 0  # when it last answered its oldest work

    @property
    def free(self) -> int:
        return self.hello.credits - len(self.jobs) - len(self.deliveries)

    def held_ns(self, now_ns: int) -> int:
        """For how long its oldest work has been without an answer, from when that became the oldest."""
        sent_ns = [job.sent_ns for job in self.jobs.values()] or list(self.deliveries.values())
        return now_ns - max(sent_ns[0], self.moved_ns) if sent_ns else 0

    def excuse(self, gap_ns: int) -> None:
        """Don't count time in which the broker itself was stopped as silence."""
        self.last_seen_ns += gap_ns
        self.moved_ns = self.last_seen_ns

    def take_back(self, work: int, now_ns: int) -> Job | None:
        """Remove and return the job that an answer is for; None if this peer has no such work."""
        if next(iter(self.jobs), None) == work:
            self.moved_ns = now_ns
        return self.jobs.pop(work, None)

    def commit(self, source: str, offset: int, now_ns: int) -> int:
        """Remove the deliveries before `offset`, which are written; return the age of the first, ns."""
        done = [d for d in self.deliveries if d[0] == source and d[1] < offset]
        if not done:
            return 0
        if done[0] == next(iter(self.deliveries)):
            self.moved_ns = now_ns
        return now_ns - min(self.deliveries.pop(delivery) for delivery in done)

    @property
    def has_quarantined(self) -> bool:
        return any(job.alone for job in self.jobs.values())

    @property
    def units(self) -> int:
        """The units of its largest step under way; 0 while it waits for work."""
        return max((job.units for job in self.jobs.values()), default=min(1, len(self.deliveries)))


class Peers:
    """The peers, in the order in which they said hello."""

    def __init__(self) -> None:
        self._by_identity: dict[bytes, Peer] = {}
        self._jobs = 0
        self._requested_ns: OrderedDict[bytes, int] = OrderedDict()  # when a hello was requested
        self._latest: OrderedDict[str, bytes] = OrderedDict()  # instance -> its last process
        self._replaced: OrderedDict[bytes, None] = OrderedDict()  # earlier processes of an instance

    def get(self, identity: bytes) -> Peer | None:
        return self._by_identity.get(identity)

    def add(self, peer: Peer) -> None:
        self._requested_ns.pop(peer.identity, None)
        self._by_identity[peer.identity] = peer
        before = self._latest.pop(peer.hello.instance, peer.identity)
        self._latest[peer.hello.instance] = peer.identity
        if before != peer.identity:
            self._replaced[before] = None
        for remembered in (self._latest, self._replaced):
            if len(remembered) > MAX_REQUESTED:
                remembered.popitem(last=False)

    def is_replaced(self, identity: bytes) -> bool:
        """Whether a later process of the same instance has said hello: this one was out of reach."""
        return identity in self._replaced

    def request_is_due(self, identity: bytes, now_ns: int, interval_ns: int) -> bool:
        """Whether to request the hello of a peer: at most once in `interval_ns`."""
        if now_ns - self._requested_ns.get(identity, -interval_ns) < interval_ns:
            return False
        self._requested_ns[identity] = now_ns
        self._requested_ns.move_to_end(identity)
        if len(self._requested_ns) > MAX_REQUESTED:
            self._requested_ns.popitem(last=False)
        return True

    def begin(self, peer: Peer, job: Job) -> int:
        """Give a peer a job; return the job's number, which is unique."""
        self._jobs += 1
        peer.jobs[self._jobs] = job
        return self._jobs

    def remove(self, peer: Peer) -> None:
        self._by_identity.pop(peer.identity, None)

    def of(self, role: Role) -> list[Peer]:
        return [peer for peer in self._by_identity.values() if peer.hello.role == role]

    def of_instance(self, instance: str) -> list[Peer]:
        return [peer for peer in self._by_identity.values() if peer.hello.instance == instance]

    def of_source(self, source: str) -> Peer | None:
        return next((p for p in self.of("capture") if p.hello.source and p.hello.source.name == source), None)

    def __len__(self) -> int:
        return len(self._by_identity)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_identity.values()))


SILENT_STEPS: Final = 20
"""A stage may be silent for this many times the longest that its step can be expected to take."""

FIRST_STEP_NS: Final = 10_000_000_000
"""How long it may be silent during a first step, whose duration is not known yet."""

WINDOW_NS: Final = 10_000_000_000
"""On some systems a window blocks its loop while it is dragged or its menu is open."""

REMEMBERED: Final = 64
"""The last steps of a role: one that a suspended machine made long is forgotten in time."""


class Liveness:
    """How long a stage may be silent, so that slow ones are not taken for hung.

    Durations are learned by role and unit of work: a pixel, a crop, a record. Were they learned by process,
    one that has just started would time out in its first step.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._paces: dict[Role, deque[float]] = {}  # ns a unit

    def learn(self, role: Role, units: int, step_ns: int) -> None:
        if units > 0:
            self._paces.setdefault(role, deque(maxlen=REMEMBERED)).append(step_ns / units)

    def limit_ns(self, peer: Peer) -> int:
        """How long a peer may be silent: for one step, since heartbeats are sent between steps."""
        timeout_ns = max(self._timeout_ns, WINDOW_NS) if peer.hello.watched else self._timeout_ns
        units = peer.units
        if not units:
            return timeout_ns
        paces = self._paces.get(peer.hello.role)
        step_ns = SILENT_STEPS * max(paces) * units if paces else FIRST_STEP_NS
        return max(timeout_ns, round(step_ns))
