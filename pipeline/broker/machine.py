"""The broker's interface. `broker_process` moves the bytes; no socket and no clock is in here."""

from collections.abc import Sequence
from typing import Final

from pipeline.broker.admission import admit, lose
from pipeline.broker.dispatch import on_duty, pump
from pipeline.broker.intake import take_in
from pipeline.broker.report import peer_report, report
from pipeline.broker.state import BrokerRules, Outgoing, State
from pipeline.messages import AnyMessage, Buffer, Clock, Goodbye, Heartbeat, Hello, Introduce

ASK_AGAIN_NS: Final = 1_000_000_000
"""How long an unknown peer has for its hello before it is asked again."""


class Broker:
    """The state machine of a run. What is to be sent is taken with `drain` after each call."""

    def __init__(self, name: str, rules: BrokerRules) -> None:
        """`name` is new at each start: answers to another broker are known by it."""
        self.state = State(name, rules)
        self._asked_ns: dict[bytes, int] = {}

    def receive(self, identity: bytes, message: AnyMessage, buffers: Sequence[Buffer], now_ns: int) -> None:
        """Take in a message that has been checked by `messages.decode`."""
        peer = self.state.peers.get(identity)
        if isinstance(message, Hello):
            self._asked_ns.pop(identity, None)
            admit(self.state, identity, message, now_ns)
        elif peer is None:
            if not isinstance(message, Goodbye):
                self._ask(identity, now_ns)
            if isinstance(message, Heartbeat) and message.sent_ns:  # a remote stage sets its clock first
                self.state.send(identity, Clock(message.sent_ns, now_ns))
            return
        else:
            peer.heard_ns = now_ns
            take_in(self.state, peer, message, buffers, now_ns)
        pump(self.state, now_ns)

    def _ask(self, identity: bytes, now_ns: int) -> None:
        """Ask an unknown peer for its hello: once, though several of its messages may be on their way."""
        if now_ns - self._asked_ns.get(identity, -ASK_AGAIN_NS) >= ASK_AGAIN_NS:
            self._asked_ns = {i: ns for i, ns in self._asked_ns.items() if now_ns - ns < ASK_AGAIN_NS}
            self._asked_ns[identity] = now_ns
            self.state.send(identity, Introduce())

    def bad_message(self, identity: bytes, now_ns: int) -> None:
        """Count a message that could not be decoded. If it was a worker's answer, its work is free."""
        self.state.meters.bad_messages += 1
        peer = self.state.peers.get(identity)
        if peer is not None and peer.jobs:
            lose(self.state, peer)
            pump(self.state, now_ns)

    def unreachable(self, identity: bytes, now_ns: int) -> None:
        """A message could not be sent: the peer's connection is gone."""
        peer = self.state.peers.get(identity)
        if peer is not None:
            lose(self.state, peer)
            pump(self.state, now_ns)

    def tick(self, now_ns: int) -> None:
        """Do what time brings: give up silent peers, drop what waited too long, report."""
        self._give_up_silent(now_ns)
        self._drop_stale(now_ns)
        if self.state.stopping and now_ns >= self.state.stop_deadline_ns:
            self._abandon()
        pump(self.state, now_ns)
        if now_ns >= self.state.next_report_ns:
            report(self.state, now_ns)

    def slept(self, gap_ns: int) -> None:
        """The broker itself was stopped for so long: nobody else is to blame for that silence."""
        for peer in self.state.peers:
            peer.heard_ns += gap_ns

    def due_ns(self) -> int | None:
        """When a batch is due that still waits for company, and not for a worker."""
        waits = self.state.rules.max_delay_ms and any(p.free > 0 for p in on_duty(self.state))
        return self.state.batcher.due_ns() if waits else None

    def drain(self) -> tuple[list[Outgoing], list[Buffer], list[str]]:
        """Return and forget the messages to send, the records (JSON) to publish and what to log."""
        state = self.state
        drained = state.outgoing, state.records, state.notes
        state.outgoing, state.records, state.notes = [], [], []
        return drained

    @property
    def finished(self) -> bool:
        """Whether every frame of every source has its outcome, written."""
        return self.state.finished

    @property
    def peers_left(self) -> bool:
        """Whether stages are still closing after the end."""
        return any(peer.hello.role != "parent" for peer in self.state.peers)

    def _give_up_silent(self, now_ns: int) -> None:
        for peer in self.state.peers:
            silent_ns = now_ns - peer.heard_ns
            if silent_ns > self.state.patience.limit_ns(peer):
                name = peer.hello.name
                self.state.notes.append(f"{name} has been silent for {silent_ns / 1e9:.1f} s and is given up")
                self.state.given_up.append(peer_report(peer, now_ns, given_up=True))
                lose(self.state, peer)

    def _drop_stale(self, now_ns: int) -> None:
        limit_ns = round(self.state.rules.settings.live_max_wait_ms * 1e6)
        for entry in self.state.queue.live_waiting():
            if now_ns - entry.received_ns > limit_ns:
                self.state.settle(entry, "dropped", "stale")

    def _abandon(self) -> None:
        """After a stop, when the time for what was under way is over."""
        for ledger in self.state.ledgers.values():
            ledger.ended = True
            for entry in list(ledger.entries.values()):
                if entry.phase != "settled":
                    self.state.settle(entry, "dropped", "stopped")
