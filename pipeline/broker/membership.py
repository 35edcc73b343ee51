"""Who takes part in a run: hellos are accepted or refused; the work of peers that are lost goes to others."""

from typing import Final

from pipeline.broker.ledger import PendingFrame, SourceLedger
from pipeline.broker.peers import Job, Peer
from pipeline.broker.queues import ItemRange
from pipeline.broker.state import OBSERVERS, State, Unheard, is_child, source_of
from pipeline.wire.messages import (
    MAX_PEERS,
    PROTOCOL,
    Accept,
    Committed,
    End,
    EndOfSource,
    Hello,
    Refused,
    RequestHello,
    StopCapture,
)

MAX_DEATHS_ALONE: Final = 2
"""A frame that has killed this many workers, each of which had it alone, is `failed`."""

NAMED: Final = 3
"""Frames that a line of the log names."""

REQUEST_INTERVAL_NS: Final = 1_000_000_000
"""An unknown peer is requested to say hello at most once in this time."""


def request_hello(state: State, identity: bytes, now_ns: int) -> bool:
    """Request a peer's hello, once in a while only: several of its messages may be on their way."""
    due = state.peers.request_is_due(identity, now_ns, REQUEST_INTERVAL_NS)
    if due:
        state.send(identity, RequestHello())
    return due


def protocol_error(state: State, identity: bytes, what: str, now_ns: int) -> None:
    """A peer has sent an invalid message, perhaps an answer or a frame: its work goes to others.

    It takes part again once it has said hello. That request is logged, rather than each message.
    """
    state.metrics.bad_messages += 1
    peer = state.peers.get(identity)
    if request_hello(state, identity, now_ns):
        name = peer.hello.name if peer else identity.decode(errors="backslashreplace")
        state.log(f"{name}: {what}; it must say hello again")
    if peer is not None:
        leave(state, peer)


def join(state: State, identity: bytes, hello: Hello, now_ns: int, key: str | None) -> None:
    """Answer a hello. An earlier process of the same instance is replaced, and its work goes to others."""
    same = state.peers.get(identity)
    predecessors = state.peers.of_instance(hello.instance)
    if same and same not in predecessors:  # listed once, so that its work is retried once
        predecessors.append(same)
    reason = key_refusal(hello, key, predecessors) or refusal(state, hello)
    if not reason and state.peers.is_replaced(identity):  # else the two would replace each other in turn
        reason = f"{hello.name}: another process has taken its place while it was out of reach"
    if reason:
        state.metrics.bad_messages += 1
        state.log(f"{hello.name} is refused: {reason}")
        state.send(identity, Refused(reason))
        return
    for old in predecessors:
        leave(state, old, died=old.identity != identity)
    confirm_death(state, hello.instance, identity)
    if hello.fingerprint:
        state.fingerprints.setdefault(hello.role, hello.fingerprint)
    peer = Peer(identity, hello, now_ns, key=key)
    state.peers.add(peer)
    if hello.role == "display":
        accept_display(state, peer)
    elif hello.role != "capture":
        accept(state, peer)
        if state.lifetime.finished:
            state.send(identity, End())


def refusal(state: State, hello: Hello) -> str:
    """Return why a peer may not take part; "" if it may."""
    if hello.protocol != PROTOCOL:
        return f"this broker speaks protocol {PROTOCOL}, {hello.name} speaks {hello.protocol}: update one"
    if len(state.peers) >= MAX_PEERS and not state.peers.of_instance(hello.instance):
        return f"{hello.name}: the run has {MAX_PEERS} stages already; it takes no more"
    if hello.role not in ("capture", "display", *OBSERVERS, *state.worker_roles):
        return f"{hello.name}: this run has no stage {hello.role!r}"
    if hello.role in ("display", *state.worker_roles) and not hello.credits:
        return f"{hello.name}: expected credits, found 0: it could be given no work"
    agreed = state.fingerprints.get(hello.role)
    if agreed and hello.fingerprint != agreed:
        same = "file and classify.labels" if hello.role == "classify" else "file"
        return (
            f"{hello.name}: its model is not the one that this run uses: "
            f"expected {agreed}, found {hello.fingerprint}; use the same {same} on every machine"
        )
    if hello.role == "display" and any(p.hello.instance != hello.instance for p in state.peers.of("display")):
        return f"{hello.name}: the run has a display already; it takes one"
    if hello.role == "capture":
        if hello.source is None:
            return f"{hello.name}: a capture must name its source"
        if not state.admits(hello.source.name):
            return f"source {hello.source.name!r} is not one of this run"
        other = state.peers.of_source(hello.source.name)
        if other is not None and other.hello.instance != hello.instance:
            return f"source {hello.source.name!r} is captured by another process already"
        ledger = state.ledgers.get(hello.source.name)
        if ledger is not None and ledger.epoch and ledger.info.kind != hello.source.kind:
            return f"source {hello.source.name!r} is {ledger.info.kind} in this run, not {hello.source.kind}"
    return ""


def key_refusal(hello: Hello, key: str | None, predecessors: list[Peer]) -> str:
    """Return why a peer's key does not allow its hello; "" if it does. Over ipc there are no keys."""
    if key is not None and key.partition("-")[0] != hello.role:  # detect-attic is a key for detect
        return f"{hello.name}: the key {key!r} is not for {hello.role}"
    if any(peer.key != key for peer in predecessors):
        return f"{hello.name}: its instance has joined with another key than {key!r}"
    return ""


def accept(state: State, peer: Peer, epoch: int = 0, next_sequence: int = 0, paced: bool = False) -> None:
    committed = {name: ledger.committed for name, ledger in state.ledgers.items()}
    peer.accepted = True
    state.send(peer.identity, Accept(state.name, epoch, next_sequence, paced, committed))


def accept_display(state: State, peer: Peer) -> None:
    for name, committed in peer.hello.committed.items():
        if name in state.ledgers:
            state.ledgers[name].merge(committed)
        elif state.admits(name):
            state.known[name] = committed
    for ledger in state.ledgers.values():
        ledger.keep_pixels = peer.hello.wants_pixels
        ledger.deliver_again()
    accept(state, peer)
    for name in state.lifetime.ended_sources:
        state.send(peer.identity, EndOfSource(name))
    if state.lifetime.finished:
        state.send(peer.identity, End())


def accept_captures(state: State) -> None:
    """Accept captures once display has reported what it has written, and again when there is room."""
    waiting = [peer for peer in state.peers.of("capture") if not peer.accepted]
    displays = state.peers.of("display") if waiting else []
    if not displays:
        return
    for peer in waiting:
        if not peer.put_off or has_room_again(state, source_of(peer.hello)):
            accept_capture(state, peer, displays[0].hello)


def has_room_again(state: State, source: str) -> bool:
    """Whether enough frames of a source fit again to ask for them."""
    ledger = state.ledgers[source]
    return state.has_room(ledger, ledger.largest_bytes) and ledger.in_flight <= state.window(ledger) // 2


def accept_capture(state: State, peer: Peer, display: Hello) -> None:
    info = peer.hello.source
    assert info is not None
    ledger = state.ledgers.get(info.name)
    if ledger is None:
        ledger = state.ledgers[info.name] = SourceLedger(info, display.wants_pixels)
        ledger.merge(state.known.pop(info.name, Committed()))
    ledger.merge(peer.hello.committed.get(info.name, Committed()))
    ledger.epoch += 1
    ledger.instance = peer.hello.instance
    peer.put_off = False
    accept(state, peer, ledger.epoch, ledger.next_sequence, display.watched)
    if state.lifetime.stopping or state.lifetime.finished:
        state.send(peer.identity, StopCapture())
    if state.lifetime.finished:
        state.send(peer.identity, End())
    for display_peer in state.peers.of("display"):
        accept(state, display_peer)  # capture may know of more written frames than display


def lose(state: State, peer: Peer, why: str, *, seen: bool = False, always_log: bool = False) -> None:
    """Remove a peer that is dead or out of reach, and with the supervisor of another machine its workers.

    It is logged if work or workers are lost with it, or `always_log`. `seen`: see `leave`.
    """
    workers = state.workers_of(peer)
    with_it = f"; lost with it: {', '.join(worker.hello.name for worker in workers)}" if workers else ""
    jobs = [job for lost in (peer, *workers) for job in lost.jobs.values()]
    others = f"; work that goes to others: {len(jobs)} ({named(jobs)})" if jobs else ""
    if always_log or workers or jobs:
        state.log(f"{peer.hello.name} {why}{with_it}{others}")
    for lost in (peer, *workers):
        leave(state, lost, seen=seen)


def named(jobs: list[Job]) -> str:
    """Name the first frames of some work, for the log."""
    frames = [f"{frame.source} frame {frame.sequence}" for job in jobs for frame in job.frames]
    return ", ".join([*frames[:NAMED], *(["…"] if len(frames) > NAMED else [])])


def leave(state: State, peer: Peer, *, died: bool = True, seen: bool = True) -> None:
    """Remove a peer that has died, was replaced or has said goodbye; its work goes to others.

    A peer that gave an invalid result counts as dead: its frame may be the reason, so it is tried alone.

    `seen`: its end is certain. A remote worker that is silent counts as dead once its supervisor reports
    it or its successor says hello: until then the network may be at fault.
    """
    state.peers.remove(peer)
    own = is_child(peer.hello.instance, state.rules.owner) and not peer.hello.remote
    certain = died and (seen or own)
    alone = [(e.source, e.sequence) for job in peer.jobs.values() if job.alone for e in job.frames]
    if died and not certain and alone:
        if len(state.unheard) >= MAX_PEERS:
            state.unheard.pop(next(iter(state.unheard)))
        state.unheard[peer.hello.instance] = Unheard(peer.identity, alone)
    for job in peer.jobs.values():
        for piece in job.pieces:
            retry(state, piece, peer.hello.role, died_of_it=certain and job.alone)


def confirm_death(state: State, instance: str, successor: bytes = b"") -> None:
    """Count the end of a silent worker, whose supervisor reports it or whose `successor` says hello.

    If the silent one itself is back, nothing has died.
    """
    unheard = state.unheard.pop(instance, None)
    if unheard is None or unheard.identity == successor:
        return
    for source, sequence in unheard.alone:
        frame = state.ledgers[source].pending.get(sequence)
        if frame is not None and frame.phase != "resolved":
            frame.deaths_alone += 1
            give_up_if_deadly(state, frame)


def give_up_if_deadly(state: State, frame: PendingFrame) -> bool:
    deadly = frame.deaths_alone >= MAX_DEATHS_ALONE
    if deadly:
        state.log(
            f"{frame.source} frame {frame.sequence} failed: two workers died of it or gave an invalid result"
        )
        state.resolve(frame, "failed", "worker_died")
    return deadly


def retry(state: State, piece: ItemRange, role: str, *, died_of_it: bool) -> None:
    """Try a lost worker's frame again alone, unless it has killed too many workers."""
    frame = piece.frame
    if frame.phase == "resolved":
        return
    frame.deaths_alone += died_of_it
    if give_up_if_deadly(state, frame):
        return
    if role == state.frame_step:
        frame.phase = "waiting"
        state.frame_queue.put_quarantined(frame)
    else:
        state.item_queues[role].put_back(piece)
