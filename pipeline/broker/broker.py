"""The broker: a state machine without sockets. A message and the time go in, messages to send come out.

broker      the interface: receive, tick, drain; and the status for the supervisors
state       what a run is at a moment
membership  who takes part: hello, refusals, deaths
handlers    what each message of a stage does
dispatch    what can be sent now: work, deliveries, credits, the end
peers       the stages, what each holds, and how long one may be silent
ledger      the account of each source's frames
queues      frames and items that wait for a step
main        the process round it, which moves the bytes
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from pipeline.broker.dispatch import pump
from pipeline.broker.handlers import handle
from pipeline.broker.ledger import SourceLedger
from pipeline.broker.membership import join, lose, protocol_error, request_hello
from pipeline.broker.peers import Peer
from pipeline.broker.spec import BrokerRules
from pipeline.broker.state import OBSERVERS, Outgoing, State, is_child
from pipeline.wire.messages import (
    MAX_ERROR,
    MAX_PEERS,
    Buffer,
    Clock,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    MessageError,
    PeerReport,
    QueueReport,
    SourceReport,
    StatusReport,
)

OVERDUE_NS: Final = 60_000_000_000
"""A stage that sends heartbeats but no answer times out after this, or after three times the silence that is
allowed to it, if that is longer: its work may be on its way over a slow link."""

SUPERVISOR_SILENT_NS: Final = 1_000_000_000
"""Two heartbeats: a remote worker whose supervisor is silent for as long is lost with its machine."""

REPORT_INTERVAL_NS: Final = 250_000_000


class Broker:
    """The state machine of a run. What is to be sent is taken with `drain` after each call."""

    def __init__(self, name: str, rules: BrokerRules) -> None:
        """`name` is new at each start, so that answers to an earlier broker are recognised."""
        self.state = State(name, rules)

    def receive(
        self,
        identity: bytes,
        message: Message | MessageError,
        buffers: Sequence[Buffer],
        now_ns: int,
        key: str | None = None,
    ) -> None:
        """Handle a message, or why it could not be decoded; `key` is the name of its sender's key."""
        peer = self.state.peers.get(identity)
        if peer is not None and peer.key != key:  # it uses another's identity
            self.state.metrics.bad_messages += 1
            return
        if isinstance(message, MessageError):
            protocol_error(self.state, identity, f"a message is dropped: {message}", now_ns)
        elif isinstance(message, Hello):
            join(self.state, identity, message, now_ns, key)
        elif peer is not None:
            peer.last_seen_ns = now_ns
            handle(self.state, peer, message, buffers, now_ns)
        else:
            if not isinstance(message, Goodbye):
                request_hello(self.state, identity, now_ns)
            if isinstance(message, Heartbeat) and message.sent_ns:  # a remote stage sets its clock first
                self.state.send(identity, Clock(message.sent_ns, now_ns))
            return
        pump(self.state, now_ns)

    def unreachable(self, identity: bytes, now_ns: int) -> None:
        """A message could not be sent: the peer's connection is closed."""
        peer = self.state.peers.get(identity)
        if peer is not None:
            lose(self.state, peer, "lost its connection")
            pump(self.state, now_ns)

    def tick(self, now_ns: int) -> None:
        """Do what is due: time out silent peers, drop frames that waited too long, report."""
        for peer in self.state.peers:
            if self.state.peers.get(peer.identity) is peer:  # not lost with its supervisor meanwhile
                self._watch(peer, now_ns)
        self._drop_stale(now_ns)
        if self.state.lifetime.stopping and now_ns >= self.state.lifetime.stop_deadline_ns:
            self._abandon()
        pump(self.state, now_ns)
        # The supervisor must hear of what hangs even in the tick after which the broker ends.
        if now_ns >= self.state.outbox.next_report_ns or self.state.outbox.timed_out:
            report(self.state, now_ns)

    def slept(self, gap_ns: int) -> None:
        """The broker itself was stopped for `gap_ns`: no peer times out for that."""
        for peer in self.state.peers:
            peer.excuse(gap_ns)

    def due_ns(self) -> int | None:
        """When the next batch is due that waits for more items and not for a worker; None: there is none."""
        due_ns = [
            queue.due_ns()
            for role, queue in self.state.item_queues.items()
            if queue.step.max_delay_ms > 0 and any(peer.free > 0 for peer in self.state.peers.of(role))
        ]
        return min((due for due in due_ns if due is not None), default=None)

    def drain(self) -> tuple[list[Outgoing], list[Buffer], list[str]]:
        """Take the messages to send, the records (JSON) to publish, and the lines to log."""
        outbox = self.state.outbox
        drained = outbox.outgoing, outbox.records, outbox.log_lines
        outbox.outgoing, outbox.records, outbox.log_lines = [], [], []
        return drained

    @property
    def finished(self) -> bool:
        """Whether the record of every frame is written."""
        return self.state.lifetime.finished

    @property
    def peers_left(self) -> bool:
        """Whether stages are still closing after the end."""
        return any(peer.hello.role != "supervisor" for peer in self.state.peers)

    def _watch(self, peer: Peer, now_ns: int) -> None:
        """Time out a peer that is silent, or holds its work, for too long."""
        limit_ns = self.state.liveness.limit_ns(peer)
        silent_ns, held_ns = now_ns - peer.last_seen_ns, peer.held_ns(now_ns)
        if silent_ns > limit_ns:
            supervisor = self.state.remote_supervisor_of(peer)
            if supervisor is not None and now_ns - supervisor.last_seen_ns > SUPERVISOR_SILENT_NS:
                peer = supervisor
            self._time_out(peer, f"silent for {silent_ns / 1e9:.1f} s", now_ns)
        elif held_ns > max(OVERDUE_NS, 3 * limit_ns):
            self._time_out(peer, f"no answer for {held_ns / 1e9:.1f} s", now_ns)

    def _time_out(self, peer: Peer, why: str, now_ns: int) -> None:
        for lost in (peer, *self.state.workers_of(peer)):
            self.state.outbox.timed_out.append(peer_report(lost, now_ns, timed_out=True))
        lose(self.state, peer, f"timed out: {why}", always_log=True)

    def _drop_stale(self, now_ns: int) -> None:
        limit_ns = round(self.state.rules.settings.live_max_wait_ms * 1e6)
        for frame in self.state.frame_queue.live_waiting():
            if now_ns - frame.received_ns > limit_ns:
                self.state.resolve(frame, "dropped", "stale")

    def _abandon(self) -> None:
        """Drop what is still under way at the deadline of a stop."""
        for ledger in self.state.ledgers.values():
            ledger.ended = True
            for frame in list(ledger.pending.values()):
                if frame.phase != "resolved":
                    self.state.resolve(frame, "dropped", "stopped")


def report(state: State, now_ns: int) -> None:
    """Send the state of the run to every supervisor and to the web page."""
    state.outbox.next_report_ns = now_ns + REPORT_INTERVAL_NS
    interval_s, latency_ns = state.metrics.take(now_ns)
    peers = [peer_report(p, now_ns, timed_out=False) for p in state.peers if p.hello.role != "supervisor"]
    message = StatusReport(
        broker=state.name,
        started=state.lifetime.started,
        finished=state.lifetime.finished,
        stopping=state.lifetime.stopping,
        interval_s=interval_s,
        sources=[source_report(ledger) for ledger in in_order(state)],
        peers=peers + state.outbox.timed_out[:MAX_PEERS],
        steps=dict(state.metrics.steps),
        busy_ns=dict(state.metrics.busy_ns),
        batches=dict(state.metrics.batches),
        latency_ns=latency_ns,
        held_bytes=state.held_bytes,
        elapsed_s=max(0, state.lifetime.last_commit_ns - state.lifetime.started_ns) / 1e9,
        bad_messages=state.metrics.bad_messages,
        queues=queue_reports(state, now_ns),
    )
    state.outbox.timed_out = []
    for observer in (peer for role in OBSERVERS for peer in state.peers.of(role)):
        seen = [peer_seen_by(observer, peer) for peer in message.peers]
        state.send(observer.identity, replace(message, peers=seen))


def peer_seen_by(supervisor: Peer, peer: PeerReport) -> PeerReport:
    """Hide instance ids from other supervisors: whoever knows one can take the place of its process."""
    return peer if is_child(peer.instance, supervisor.hello.instance) else replace(peer, instance=peer.name)


def peer_report(peer: Peer, now_ns: int, *, timed_out: bool) -> PeerReport:
    """How a peer is doing; `timed_out`: it has been silent, or has held its work, for too long."""
    hello, heartbeat = peer.hello, peer.heartbeat or Heartbeat()
    return PeerReport(
        hello.instance,
        hello.name,
        hello.role,
        (now_ns - peer.last_seen_ns) / 1e9,
        timed_out,
        hello.remote,
        heartbeat.offset_ns,
        heartbeat.error_ns,
    )


def queue_reports(state: State, now_ns: int) -> dict[str, QueueReport]:
    """What waits for each step, by its role."""
    waiting = {state.frame_step: state.frame_queue.waiting(now_ns)}
    waiting |= {role: queue.waiting(now_ns) for role, queue in state.item_queues.items()}
    return {role: QueueReport(count, max(0, age_ns) / 1e9) for role, (count, age_ns) in waiting.items()}


def source_report(ledger: SourceLedger) -> SourceReport:
    """The account of a source, and who is in view while it goes on."""
    shown = not (ledger.ended and not ledger.in_flight)
    return SourceReport(
        ledger.info.name,
        ledger.info.kind,
        ledger.captured,
        ledger.in_flight,
        ledger.committed,
        ledger.ended,
        ledger.error[:MAX_ERROR],
        ledger.info.frames,
        *(ledger.in_view if shown else ([], 0)),
    )


def in_order(state: State) -> list[SourceLedger]:
    """The ledgers in the order in which the sources were given."""
    rank = {name: number for number, name in enumerate(state.rules.sources or [])}
    return sorted(state.ledgers.values(), key=lambda ledger: rank.get(ledger.info.name, len(rank)))
