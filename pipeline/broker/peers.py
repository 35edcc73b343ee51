"""The stages that the broker knows, and what each of them holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.broker.batcher import Slice
from pipeline.broker.ledger import Entry
from pipeline.messages import Frame, Heartbeat, Hello, Role


@dataclass(eq=False, slots=True)
class Job:
    """A piece of work under way: a frame to detect in, or crops to classify."""

    frames: list[Entry]
    slices: list[Slice]
    alone: bool  # a suspect's second or third try

    @property
    def units(self) -> int:
        """What the time of the step goes with: crops to classify, or pixels to search."""
        if self.slices:
            return sum(piece.count for piece in self.slices)
        header = self.frames[0].header
        return header.shape[0] * header.shape[1] if isinstance(header, Frame) else 0


@dataclass(eq=False, slots=True)
class Peer:
    """A stage that has said hello."""

    identity: bytes
    hello: Hello
    heard_ns: int
    heartbeat: Heartbeat | None = None  # the last one: it says how a remote stage's clock stands
    jobs: dict[int, Job] = field(default_factory=dict)  # by the number of the work
    deliveries: set[tuple[str, int]] = field(default_factory=set)  # at display: (source, sequence)
    granted: int = 0  # capture: frames that it may still send
    welcomed: bool = False

    @property
    def free(self) -> int:
        return self.hello.credits - len(self.jobs) - len(self.deliveries)

    @property
    def has_suspect(self) -> bool:
        return any(job.alone for job in self.jobs.values())

    @property
    def units(self) -> int:
        """The most that one of its steps has to do now; 0 while it waits for work."""
        return max((job.units for job in self.jobs.values()), default=min(1, len(self.deliveries)))


class Peers:
    """The peers by identity, and by role in the order in which they came."""

    def __init__(self) -> None:
        self._by_identity: dict[bytes, Peer] = {}

    def get(self, identity: bytes) -> Peer | None:
        return self._by_identity.get(identity)

    def add(self, peer: Peer) -> None:
        self._by_identity[peer.identity] = peer

    def remove(self, peer: Peer) -> None:
        self._by_identity.pop(peer.identity, None)

    def of(self, role: Role) -> list[Peer]:
        return [peer for peer in self._by_identity.values() if peer.hello.role == role]

    def in_slot(self, slot: str) -> list[Peer]:
        return [peer for peer in self._by_identity.values() if peer.hello.slot == slot]

    def of_source(self, source: str) -> Peer | None:
        return next((p for p in self.of("capture") if p.hello.source and p.hello.source.name == source), None)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_identity.values()))
