"""What the supervisors are told of a run, a few times a second."""

from typing import Final

from msgspec.structs import replace

from pipeline.broker.ledger import SourceLedger
from pipeline.broker.peers import Peer
from pipeline.broker.state import OBSERVERS, State, is_child
from pipeline.wire.limits import MAX_ERROR, MAX_PEERS
from pipeline.wire.messages import Heartbeat, PeerReport, SourceReport, StatusReport

REPORT_INTERVAL_NS: Final = 250_000_000


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
        batches={str(size): count for size, count in state.metrics.batches.items()},
        latency_ns=latency_ns,
        held_bytes=state.held_bytes,
        elapsed_s=max(0, state.lifetime.last_commit_ns - state.lifetime.started_ns) / 1e9,
        bad_messages=state.metrics.bad_messages,
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


def source_report(ledger: SourceLedger) -> SourceReport:
    """The account of a source."""
    return SourceReport(
        ledger.info.name,
        ledger.info.kind,
        ledger.captured,
        ledger.in_flight,
        ledger.committed,
        ledger.ended,
        ledger.error[:MAX_ERROR],
    )


def in_order(state: State) -> list[SourceLedger]:
    """The ledgers in the order in which the sources were given."""
    rank = {name: number for number, name in enumerate(state.rules.sources or [])}
    return sorted(state.ledgers.values(), key=lambda ledger: rank.get(ledger.info.name, len(rank)))
