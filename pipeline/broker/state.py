"""What a run is at a moment: who takes part, what is under way, and what is to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.broker.ledger import PendingFrame, SourceLedger
from pipeline.broker.liveness import Liveness
from pipeline.broker.metrics import Metrics
from pipeline.broker.offenders import LIMIT, Offenders
from pipeline.broker.peers import Peers
from pipeline.broker.queues import Batcher, DetectQueue
from pipeline.broker.spec import BrokerRules
from pipeline.wire.limits import MAX_SOURCES, MAX_WINDOW
from pipeline.wire.messages import Buffer, Hello, Message, PeerReport, Progress

FrameName = tuple[str, int]
"""Source and sequence."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent to one peer."""

    identity: bytes
    message: Message
    buffers: Sequence[Buffer] = ()


class State:
    """Held by the machine, changed by the functions of admission, intake and dispatch."""

    def __init__(self, name: str, rules: BrokerRules) -> None:
        self.name = name
        self.rules = rules
        self.peers = Peers()
        self.ledgers: dict[str, SourceLedger] = {}
        self.known: dict[str, Progress] = {}  # of sources whose capture is not here yet
        self.fingerprints: dict[str, str] = {}  # role -> the model that its workers must have
        self.queue = DetectQueue(rules.settings.file_share)
        detect, classify = rules.steps
        self.batcher = Batcher(classify.max_batch, round(classify.max_delay_ms * 1e6))
        self.may_delay = classify.max_delay_ms > 0
        self.metrics = Metrics()
        self.offenders = Offenders()
        self.search_interval_ns = round(detect.recall_ms * 1e6)
        self.liveness = Liveness(round(rules.settings.peer_timeout_s * 1e9))
        self.next_work = 0
        self.next_turn = 0  # of the sources at display
        self.next_report_ns = 0
        self.started = False
        self.started_ns = 0
        self.last_written_ns = 0
        self.stopping = ""  # why
        self.stop_deadline_ns = 0
        self.ended_sources: set[str] = set()
        self.finished = False
        self.rejoin_until_ns: int | None = None
        self.unheard: dict[str, tuple[bytes, list[FrameName]]] = {}  # slot -> identity, what it had alone
        self.given_up: list[PeerReport] = []
        self.outgoing: list[Outgoing] = []
        self.records: list[Buffer] = []  # to publish
        self.log_lines: list[str] = []  # to log

    def send(self, identity: bytes, message: Message, buffers: Sequence[Buffer] = ()) -> None:
        self.outgoing.append(Outgoing(identity, message, buffers))

    def offend(self, identity: bytes, what: str, now_ns: int) -> None:
        """Count what a peer may not send, and say so the first time and when it is enough."""
        self.metrics.bad_messages += 1
        count = self.offenders.count(identity)
        peer = self.peers.get(identity)
        name = peer.hello.name if peer else repr(identity)
        if count == 1:
            self.log_lines += self.offenders.say(f"{name}: {what}", now_ns)
        elif count == LIMIT:
            self.log_lines += self.offenders.say(f"{name} has sent too much of that and is ignored", now_ns)

    @property
    def held_bytes(self) -> int:
        return sum(ledger.held_bytes for ledger in self.ledgers.values())

    def admits(self, source: str) -> bool:
        """Whether this run has or may have a source of that name."""
        if self.rules.sources is not None:
            return source in self.rules.sources
        return source in self.ledgers or len({*self.ledgers, *self.known, source}) <= MAX_SOURCES

    def share_bytes(self) -> int:
        """What each source that goes on may hold."""
        return self.rules.settings.max_bytes // max(1, sum(not led.complete for led in self.ledgers.values()))

    def window(self, ledger: SourceLedger) -> int:
        """Frames of a source whose outcome may still have to be written."""
        return MAX_WINDOW if ledger.info.kind == "live" else self.rules.settings.file_window

    def resolve(self, entry: PendingFrame, status: Literal["dropped", "failed"], reason: str) -> None:
        """Give a frame that is under way its outcome, and forget it wherever it waits."""
        self.queue.remove(entry)
        self.batcher.remove(entry)
        self.ledgers[entry.source].resolve(entry, status, reason)


def is_child(slot: str, parent_slot: str) -> bool:
    """Whether a process was started by the parent that has `parent_slot`, a secret of theirs."""
    return slot.startswith(f"{parent_slot}/")


def source_of(hello: Hello) -> str:
    """The source that a capture's hello names; empty for other roles."""
    return hello.source.name if hello.source else ""
