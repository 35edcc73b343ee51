"""The broker's interface. `broker_process` moves the bytes; no socket and no clock is in here."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from pipeline.broker.dispatch import pump
from pipeline.broker.handlers import handle
from pipeline.broker.membership import join, leave
from pipeline.broker.peers import Peer
from pipeline.broker.report import peer_report, report
from pipeline.broker.spec import BrokerRules
from pipeline.broker.state import Outgoing, State
from pipeline.wire.messages import AnyMessage, Buffer, Clock, Goodbye, Heartbeat, Hello, Introduce

ASK_AGAIN_NS: Final = 1_000_000_000
"""How long an unknown peer has for its hello before it is asked again."""

MAX_ASKED: Final = 1024
"""Unknown peers that are remembered: those that were asked last."""

OVERDUE_NS: Final = 60_000_000_000
"""A stage that beats and doesn't give back its work is given up: after so long, since work may be on its way
over a narrow link, and after three times the silence that it is allowed."""


class Broker:
    """The state machine of a run. What is to be sent is taken with `drain` after each call."""

    def __init__(self, name: str, rules: BrokerRules) -> None:
        """`name` is new at each start: answers to another broker are known by it."""
        self.state = State(name, rules)
        self._asked_ns: OrderedDict[bytes, int] = OrderedDict()

    def receive(
        self,
        identity: bytes,
        message: AnyMessage,
        buffers: Sequence[Buffer],
        now_ns: int,
        key: str | None = None,
    ) -> None:
        """Take in a message that has been checked by `messages.decode`; `key` names its sender's key."""
        if self.ignores(identity) or self._borrowed(identity, key):
            return
        peer = self.state.peers.get(identity)
        if isinstance(message, Hello):
            self._asked_ns.pop(identity, None)
            join(self.state, identity, message, now_ns, key)
        elif peer is None:
            if not isinstance(message, Goodbye):
                self._ask(identity, now_ns)
            if isinstance(message, Heartbeat) and message.sent_ns:  # a remote stage sets its clock first
                self.state.send(identity, Clock(message.sent_ns, now_ns))
            return
        else:
            peer.last_seen_ns = now_ns
            handle(self.state, peer, message, buffers, now_ns)
        self._drop_offender(identity, now_ns)
        pump(self.state, now_ns)

    def _ask(self, identity: bytes, now_ns: int) -> None:
        """Ask an unknown peer for its hello: once, though several of its messages may be on their way."""
        if now_ns - self._asked_ns.get(identity, -ASK_AGAIN_NS) >= ASK_AGAIN_NS:
            self._asked_ns[identity] = now_ns
            self._asked_ns.move_to_end(identity)
            if len(self._asked_ns) > MAX_ASKED:
                self._asked_ns.popitem(last=False)
            self.state.send(identity, Introduce())

    def ignores(self, identity: bytes) -> bool:
        """Whether a peer has sent too much that it may not: its messages are counted and nothing more."""
        ignored = identity in self.state.offenders
        self.state.metrics.bad_messages += ignored
        return ignored

    def _borrowed(self, identity: bytes, key: str | None) -> bool:
        """Whether a message comes in a peer's name from the holder of another key: it is counted, no more."""
        peer = self.state.peers.get(identity)
        borrowed = peer is not None and peer.key != key
        self.state.metrics.bad_messages += borrowed
        return borrowed

    def bad_message(self, identity: bytes, reason: str, now_ns: int, key: str | None = None) -> None:
        """Count a message that could not be decoded.

        It may have been an answer or a frame: its sender's work is free, and it is asked who it is.
        """
        if self.ignores(identity) or self._borrowed(identity, key):
            return
        self.state.offend(identity, f"a message is dropped: {reason}", now_ns)
        self._drop_offender(identity, now_ns)
        peer = self.state.peers.get(identity)
        if peer is not None:
            leave(self.state, peer)
            self._ask(identity, now_ns)
        pump(self.state, now_ns)

    def _drop_offender(self, identity: bytes, now_ns: int) -> None:
        """One that is ignored from now on takes no more part; its parent hears of it and replaces it."""
        peer = self.state.peers.get(identity) if identity in self.state.offenders else None
        if peer is not None:
            self.state.given_up.append(peer_report(peer, now_ns, given_up=True))
            leave(self.state, peer)

    def unreachable(self, identity: bytes, now_ns: int) -> None:
        """A message could not be sent: the peer's connection is gone."""
        peer = self.state.peers.get(identity)
        if peer is not None:
            leave(self.state, peer, seen=False)
            pump(self.state, now_ns)

    def tick(self, now_ns: int) -> None:
        """Do what time brings: give up silent and idle peers, drop what waited too long, report."""
        for peer in self.state.peers:
            self._watch(peer, now_ns)
        self._drop_stale(now_ns)
        if self.state.stopping and now_ns >= self.state.stop_deadline_ns:
            self._abandon()
        pump(self.state, now_ns)
        # The parent must hear of what hangs even in the tick after which the broker ends.
        if now_ns >= self.state.next_report_ns or self.state.given_up:
            report(self.state, now_ns)

    def slept(self, gap_ns: int) -> None:
        """The broker itself was stopped for so long: nobody else is to blame for that silence."""
        for peer in self.state.peers:
            peer.excuse(gap_ns)

    def due_ns(self) -> int | None:
        """When a batch is due that still waits for company, and not for a worker."""
        waits = self.state.may_delay and any(p.free > 0 for p in self.state.peers.of("classify"))
        return self.state.batcher.due_ns() if waits else None

    def drain(self) -> tuple[list[Outgoing], list[Buffer], list[str]]:
        """Return and forget the messages to send, the records (JSON) to publish and what to log."""
        state = self.state
        drained = state.outgoing, state.records, state.log_lines
        state.outgoing, state.records, state.log_lines = [], [], []
        return drained

    @property
    def finished(self) -> bool:
        """Whether every frame of every source has its outcome, written."""
        return self.state.finished

    @property
    def peers_left(self) -> bool:
        """Whether stages are still closing after the end."""
        return any(peer.hello.role != "supervisor" for peer in self.state.peers)

    def _watch(self, peer: Peer, now_ns: int) -> None:
        """Give up a peer that is silent, or that holds on to its work, for too long."""
        limit_ns = self.state.liveness.limit_ns(peer)
        silent_ns, held_ns = now_ns - peer.last_seen_ns, peer.held_ns(now_ns)
        if silent_ns > limit_ns:
            what = f"has been silent for {silent_ns / 1e9:.1f} s"
        elif held_ns > max(OVERDUE_NS, 3 * limit_ns):
            what = f"has not answered for {held_ns / 1e9:.1f} s"
        else:
            return
        self.state.log_lines.append(f"{peer.hello.name} {what} and is given up")
        self.state.given_up.append(peer_report(peer, now_ns, given_up=True))
        leave(self.state, peer, seen=False)

    def _drop_stale(self, now_ns: int) -> None:
        limit_ns = round(self.state.rules.settings.live_max_wait_ms * 1e6)
        for entry in self.state.queue.live_waiting():
            if now_ns - entry.received_ns > limit_ns:
                self.state.resolve(entry, "dropped", "stale")

    def _abandon(self) -> None:
        """After a stop, when the time for what was under way is over."""
        for ledger in self.state.ledgers.values():
            ledger.ended = True
            for entry in list(ledger.entries.values()):
                if entry.phase != "resolved":
                    self.state.resolve(entry, "dropped", "stopped")
