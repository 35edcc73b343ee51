"""Sends what can be sent: work against credits, outcomes in order, credits to captures, the end."""

from typing import Final

from pipeline.broker.ledger import PendingFrame, SourceLedger
from pipeline.broker.membership import accept_captures
from pipeline.broker.peers import Job, Peer
from pipeline.broker.queues import ItemQueue, ItemRange
from pipeline.broker.state import State, source_of
from pipeline.config.stage import Step
from pipeline.wire.codec import pack
from pipeline.wire.messages import (
    Array,
    Buffer,
    Delivery,
    Encoding,
    End,
    EndOfSource,
    Grant,
    Work,
)

LIVE_CREDITS: Final = 2
"""Frames of a live source on their way to the broker: the next one travels while one arrives."""

GRANTS: Final = 4
"""A file is granted its window in this many parts: a message for each frame would cost more."""

REJOIN_NS: Final = 5_000_000_000
"""How long remote captures may take to find a new broker: a second, or more on a poor network."""

LIVE_ACTIVE: Final = 8
"""Frames of a live source that have left its mailbox: more would only add latency."""


def pump(state: State, now_ns: int) -> None:
    """Send whatever can be sent now."""
    accept_captures(state)
    start_if_complete(state, now_ns)
    send_frame_work(state, now_ns)
    for queue in state.item_queues.values():
        send_item_work(state, queue, now_ns)
    deliver(state, now_ns)
    if state.lifetime.started and not state.lifetime.stopping:
        grant(state)
    end_if_done(state, now_ns)


def start_if_complete(state: State, now_ns: int) -> None:
    """Start once every source is open, and every role and the run's own supervisor have joined.

    Without the supervisor a short run could be over before its first report: its end would look like deaths.
    """
    if state.lifetime.started:
        return
    here = {source_of(p.hello) for p in state.peers.of("capture") if p.accepted}
    here |= {name for name, ledger in state.ledgers.items() if ledger.ended}
    sources_open = bool(here) if state.rules.sources is None else here >= set(state.rules.sources)
    roles = all(state.peers.of(role) for role in (*state.worker_roles, "display"))
    owner = state.rules.owner
    supervised = not owner or any(peer.hello.instance == owner for peer in state.peers.of("supervisor"))
    state.lifetime.started = sources_open and roles and supervised
    state.lifetime.started_ns = state.lifetime.last_commit_ns = now_ns
    if state.lifetime.started:
        state.outbox.next_report_ns = 0  # the supervisor must know before the first frame is under way


def send_frame_work(state: State, now_ns: int) -> None:
    """Send frames to the least busy workers first. One gets a second frame only if all sources are files."""
    blocked_sources = blocked(state)
    any_live = any(ledger.info.kind == "live" and not ledger.ended for ledger in state.ledgers.values())
    workers = sorted(can_read(state, state.peers.of(state.frame_step)), key=lambda peer: len(peer.jobs))
    for turn in range(max((peer.hello.credits for peer in workers), default=0)):
        for peer in workers:
            if len(peer.jobs) != turn or peer.free <= 0 or peer.has_quarantined or (turn and any_live):
                continue
            if state.frame_queue.quarantined and peer is workers[0]:
                # The least busy worker gets no other frame until it can take the quarantined one alone.
                if not peer.jobs:
                    send_frame(state, peer, state.frame_queue.quarantined.popleft(), now_ns, alone=True)
                continue
            frame = state.frame_queue.take(live=not peer.jobs, blocked=blocked_sources)
            if frame is not None:
                send_frame(state, peer, frame, now_ns, alone=False)


def can_read(state: State, workers: list[Peer]) -> list[Peer]:
    """Return the workers that can read all frames: those of other runs can't while one is shared."""
    foreign = [peer for peer in workers if not shares_memory(state, peer)]
    if not foreign or not state.rules.frames:
        return workers
    pending = (frame for ledger in state.ledgers.values() for frame in ledger.pending.values())
    shared = any(frame.header.encoding == "shared" for frame in pending)
    return [peer for peer in workers if peer not in foreign] if shared else workers


def blocked(state: State) -> frozenset[str]:
    return frozenset(
        name
        for name, ledger in state.ledgers.items()
        if ledger.info.kind == "live" and ledger.active >= LIVE_ACTIVE
    )


def send_frame(state: State, peer: Peer, frame: PendingFrame, now_ns: int, *, alone: bool) -> None:
    header, step = frame.header, state.rules.steps[0]
    assert frame.pixels is not None and header.shape is not None
    frame.phase = "working"
    near = state.ledgers[frame.source].near(frame, step)
    arrays, buffers = ([], []) if near is None else pack({step.recall: near})
    height, width, _ = header.shape
    job = Job([ItemRange(frame, 0, 0, frame.received_ns)], height * width, now_ns, alone)
    work = state.peers.begin(peer, job)
    message = Work(state.name, work, 0, header.shape, header.encoding, arrays)
    state.send(peer.identity, message, [*buffers, frame.pixels])


def send_item_work(state: State, queue: ItemQueue, now_ns: int) -> None:
    workers = sorted(state.peers.of(queue.step.role), key=lambda peer: len(peer.jobs))
    for peer in workers:
        if queue.quarantined and peer is workers[0] and peer.jobs:
            continue  # the least busy worker gets nothing else until it can take the quarantined piece alone
        while peer.free > 0 and not peer.has_quarantined:
            alone = bool(queue.quarantined) and not peer.jobs
            pieces = [queue.quarantined.popleft()] if alone else queue.take(now_ns)
            if not pieces:
                break
            items = sum(piece.count for piece in pieces)
            send_items(state, peer, queue.step, Job(pieces, items, now_ns, alone))


def send_items(state: State, peer: Peer, step: Step, job: Job) -> None:
    arrays: list[Array] = []
    buffers: list[Buffer] = []
    for piece in job.pieces:
        rows = piece.frame.values[step.takes][piece.start : piece.start + piece.count]
        arrays.append(Array(step.takes, str(rows.dtype), list(rows.shape)))  # type: ignore[arg-type]
        buffers.append(rows.data.cast("B"))
    work = state.peers.begin(peer, job)
    state.send(peer.identity, Work(state.name, work, job.units, arrays=arrays), buffers)


def deliver(state: State, now_ns: int) -> None:
    """Send outcomes to display, in order within each source; the source that waited longest comes first."""
    for display in state.peers.of("display"):
        while display.free > 0:
            ready = [ledger for ledger in state.ledgers.values() if ledger.deliverable()]
            if not ready:
                break
            ledger = min(ready, key=lambda ledger: ledger.delivery.last_turn)
            frame = ledger.deliverable()
            assert frame is not None
            send_delivery(state, display, ledger, frame, now_ns)


def send_delivery(
    state: State, display: Peer, ledger: SourceLedger, frame: PendingFrame, now_ns: int
) -> None:
    header = frame.header
    pixels = frame.pixels if display.hello.wants_pixels else None
    arrays, buffers = pack(ledger.shown(frame, state.hidden))
    if pixels is not None:
        buffers.append(pixels)
    message = Delivery(
        header.source,
        header.sequence,
        header.captured_ns,
        header.time_s,
        frame.status,
        frame.reason,
        header.file,
        header.shape if pixels is not None else None,
        ledger.info.fps,
        header.encoding,
        frame.items,
        arrays,
        (header.shape[1], header.shape[0]) if header.shape else None,
    )
    state.metrics.deliveries += 1
    ledger.delivering(state.metrics.deliveries)
    display.deliveries[header.source, header.sequence] = now_ns
    state.send(display.identity, message, buffers)


def grant(state: State) -> None:
    """Grant captures credits: a live source always has two, a file as many as its window has room for."""
    for peer in state.peers.of("capture"):
        ledger = state.ledgers.get(source_of(peer.hello))
        if ledger is None or ledger.ended or not peer.accepted:
            continue
        live = ledger.info.kind == "live"
        window = LIVE_CREDITS if live else state.rules.settings.file_window - ledger.in_flight
        credits = window - peer.granted
        if credits > 0:
            credits = min(credits, frames_that_fit(state, ledger) - peer.granted)
        if credits >= (1 if live or not peer.granted else max(1, state.rules.settings.file_window // GRANTS)):
            peer.granted += credits
            wanted = encoding(state, peer)
            state.send(peer.identity, Grant(ledger.info.name, credits, ledger.committed, wanted))


def frames_that_fit(state: State, ledger: SourceLedger) -> int:
    """How many more frames of a source may be held; at least one, however large, if none is."""
    free_bytes = state.share_bytes() - ledger.held_bytes
    if free_bytes <= 0 or state.held_bytes > state.rules.settings.max_bytes:
        return 0
    if ledger.info.kind == "live":
        return LIVE_CREDITS
    return max(free_bytes // ledger.largest_bytes, not ledger.held_bytes)


def encoding(state: State, capture: Peer) -> Encoding:
    """Return the encoding for a capture's frames: JPEG if they cross machines anywhere, shared memory if all
    processes that read them are of the broker's own run, else raw.
    """
    if state.rules.encoding != "auto":
        return "jpeg" if state.rules.encoding == "jpeg" else "raw"
    displays = [peer for peer in state.peers.of("display") if peer.hello.wants_pixels]
    ends = [capture, *state.peers.of(state.frame_step), *displays]
    if any(peer.hello.remote for peer in ends):
        return "jpeg"
    return "shared" if all(shares_memory(state, peer) for peer in ends) else "raw"


def shares_memory(state: State, peer: Peer) -> bool:
    return bool(state.rules.frames) and peer.hello.frames == state.rules.frames


def end_if_done(state: State, now_ns: int) -> None:
    for name, ledger in state.ledgers.items():
        if ledger.complete and name not in state.lifetime.ended_sources:
            state.lifetime.ended_sources.add(name)
            for display in state.peers.of("display"):
                state.send(display.identity, EndOfSource(name))
    sources = expected_sources(state, now_ns)
    done = state.lifetime.started and bool(sources) and sources <= state.lifetime.ended_sources
    nothing_left = all(ledger.complete for ledger in state.ledgers.values())
    if not state.lifetime.finished and (done or (state.lifetime.stopping and nothing_left)):
        state.lifetime.finished = True
        for peer in state.peers:
            if peer.hello.role != "supervisor":
                state.send(peer.identity, End())
        state.outbox.next_report_ns = 0  # tell the supervisor at once


def expected_sources(state: State, now_ns: int) -> set[str]:
    """Return the run's sources; none while more may still join.

    A new broker knows of remote sources only what display has written, until their captures are back.
    """
    if state.rules.sources is not None:
        return set(state.rules.sources)
    if state.lifetime.rejoin_until_ns is None:
        state.lifetime.rejoin_until_ns = now_ns + REJOIN_NS
    return set() if now_ns < state.lifetime.rejoin_until_ns else set(state.ledgers) | set(state.known)
