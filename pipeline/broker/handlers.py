"""What each message of a stage or supervisor does."""

from collections.abc import Sequence

from pipeline.broker.dispatch import encoding
from pipeline.broker.ledger import PendingFrame, SourceLedger, Values, frame_bytes
from pipeline.broker.membership import confirm_death, leave, lose, protocol_error
from pipeline.broker.peers import Job, Peer
from pipeline.broker.state import State, is_child, source_of
from pipeline.config.schema import DRAIN_S
from pipeline.wire.codec import unpack
from pipeline.wire.messages import (
    Array,
    Buffer,
    Clock,
    Commit,
    Committed,
    Died,
    Frame,
    Goodbye,
    Grant,
    Heartbeat,
    Message,
    Result,
    SourceEnded,
    SourceInfo,
    StepFailed,
    StopCapture,
    StopRequest,
)


def handle(state: State, peer: Peer, message: Message, buffers: Sequence[Buffer], now_ns: int) -> None:
    """Call the function for a message; one that its sender may not send is a protocol error."""
    match message, peer.hello.role:
        case Heartbeat(), _:
            heartbeat(state, peer, message, now_ns)
        case Goodbye(), _:
            leave(state, peer, died=False)
        case Frame(), "capture" if message.source == source_of(peer.hello):
            receive_frame(state, peer, message, buffers[0] if buffers else None, now_ns)
        case SourceEnded(), "capture" if message.source == source_of(peer.hello):
            source_ended(state, message)
        case Result(), role if role in state.worker_roles:
            result(state, peer, message, buffers, now_ns)
        case StepFailed(), role if role in state.worker_roles:
            step_failed(state, peer, message, now_ns)
        case Commit(), "display":
            commit(state, peer, message, buffers, now_ns)
        case StopRequest(), "display":
            stop(state, message.reason, now_ns)
        case ((StopRequest() | Died() | SourceEnded()), "supervisor") if may(state, peer, message):
            from_supervisor(state, message, now_ns)
        case _:
            protocol_error(state, peer.identity, f"a {type(message).__name__} that it may not send", now_ns)


def heartbeat(state: State, peer: Peer, message: Heartbeat, now_ns: int) -> None:
    """Keep the heartbeat, which has the stage's clock offset; answer with the time if it is wanted."""
    peer.heartbeat = message
    if message.sent_ns:
        state.send(peer.identity, Clock(message.sent_ns, now_ns))


def receive_frame(state: State, peer: Peer, header: Frame, pixels: Buffer | None, now_ns: int) -> None:
    """Enter a source's next frame into its ledger, and queue it if there is room."""
    ledger = state.ledgers.get(header.source)
    if ledger is None or not peer.accepted or not ledger.expects(header):
        return
    live = ledger.info.kind == "live"
    if not (live and header.shape is None):
        peer.granted = max(0, peer.granted - 1)
    size = frame_bytes(header, pixels)
    room = state.has_room(ledger, size)
    if ledger.in_flight >= state.window(ledger) or not (room or live):
        put_off(peer, ledger, size)
        return
    frame = ledger.receive(header, pixels if room else None, now_ns)
    if frame.phase == "resolved":  # it came without pixels, with its outcome
        return
    if not room:
        state.resolve(frame, "dropped", "no_room")
    elif live:
        replaced = state.frame_queue.put_live(frame)
        if replaced is not None:
            state.resolve(replaced, "dropped", "superseded")
    else:
        state.frame_queue.put_file(frame)


def put_off(peer: Peer, ledger: SourceLedger, size: int) -> None:
    """Ignore a capture's frames until it is accepted again, from the frame that did not fit."""
    peer.accepted, peer.put_off, peer.granted = False, True, 0
    ledger.largest_bytes = max(ledger.largest_bytes, size)


def source_ended(state: State, message: SourceEnded) -> None:
    ledger = state.ledgers.get(message.source)
    if ledger is None or message.epoch != ledger.epoch or ledger.ended:
        return
    if message.frames != ledger.next_sequence:
        ledger.error = (
            f"{message.source}: {message.frames} frames were captured and {ledger.next_sequence} arrived"
        )
    ledger.ended = True
    ledger.error = ledger.error or message.error


def may(state: State, supervisor: Peer, message: StopRequest | Died | SourceEnded) -> bool:
    """Whether a supervisor may send this: the run's own may, others for their own processes only."""
    if supervisor.hello.instance == state.rules.owner:
        return not isinstance(message, SourceEnded) or state.admits(message.source)
    match message:
        case Died(instance):
            return is_child(instance, supervisor.hello.instance)
        case SourceEnded(source) if source in state.ledgers:
            return is_child(state.ledgers[source].instance, supervisor.hello.instance)
        case SourceEnded(source):  # unknown to a new broker
            return state.rules.sources is None and state.admits(source)
    return False


def from_supervisor(state: State, message: StopRequest | Died | SourceEnded, now_ns: int) -> None:
    match message:
        case StopRequest(reason):
            stop(state, reason, now_ns)
        case Died(instance):
            for dead in state.peers.of_instance(instance):
                lose(state, dead, "has died", seen=True)
            confirm_death(state, instance)
        case SourceEnded():
            source_lost(state, message)


def source_lost(state: State, message: SourceEnded) -> None:
    """The capture process dies again and again: the source ends with the frames that have arrived."""
    ledger = state.ledgers.get(message.source)
    if ledger is None:  # unknown to a new broker
        ledger = SourceLedger(SourceInfo(message.source, "file", 1, 1, 0.0), keep_pixels=False)
        ledger.merge(state.known.pop(message.source, Committed()))
        state.ledgers[message.source] = ledger
    if not ledger.ended:
        ledger.ended, ledger.error = True, message.error


def result(state: State, peer: Peer, answer: Result, buffers: Sequence[Buffer], now_ns: int) -> None:
    """Store a worker's result. A malformed one is a protocol error, so that its work goes to others."""
    role = peer.hello.role
    job = peer.jobs.get(answer.work) if answer.broker == state.name else None
    if job is not None:
        wrong = wrong_form(state, role, job, answer)
        arrays = {} if wrong else unpack(answer.arrays, buffers)
        if not wrong and role in state.checks:
            wrong = state.checks[role](arrays)
        if wrong:
            protocol_error(state, peer.identity, f"a result with {wrong}", now_ns)
            return
    if (job := answered(state, peer, answer, answer.step_ns, now_ns)) is None:
        return
    if role == state.frame_step:
        found(state, job.frames[0], answer.items, arrays, now_ns)
        return
    state.metrics.batches[answer.items] += 1
    step, start = state.item_queues[role].step, 0
    for piece in job.pieces:
        if piece.frame.phase != "resolved":
            rows = {name: array[start : start + piece.count] for name, array in arrays.items()}
            state.ledgers[piece.frame.source].worked(piece.frame, step, piece.start, rows)
        start += piece.count


def wrong_form(state: State, role: str, job: Job, answer: Result) -> str:
    """Return how the arrays of a result differ from what its step gives; "" if they do not."""
    if role != state.frame_step and answer.items != job.units:
        return f"{answer.items} items where {job.units} were expected"
    (step,) = (step for step in state.rules.steps if step.role == role)
    expected = [Array(a.name, a.dtype, [answer.items, *a.shape]) for a in step.gives]
    return (
        "" if answer.arrays == expected else f"{names(answer.arrays)} where {names(expected)} were expected"
    )


def names(arrays: Sequence[Array]) -> str:
    return ", ".join(f"{array.name} {array.dtype}{array.shape}" for array in arrays) or "nothing"


def found(state: State, frame: PendingFrame, items: int, values: Values, now_ns: int) -> None:
    """Store the items of a frame and queue them for the other steps."""
    if frame.phase == "resolved":
        return
    state.ledgers[frame.source].found(frame, items, values, state.rules.steps)
    if items:
        for queue in state.item_queues.values():
            queue.put(frame, now_ns)


def step_failed(state: State, peer: Peer, answer: StepFailed, now_ns: int) -> None:
    job = answered(state, peer, answer, 0, now_ns)
    for frame in job.frames if job else ():
        if frame.phase != "resolved":
            state.resolve(frame, "failed", answer.reason)


def answered(state: State, peer: Peer, answer: Result | StepFailed, step_ns: int, now_ns: int) -> Job | None:
    """Return the job that an answer is for; None if it is late: to another broker, or for work taken back."""
    job = peer.take_back(answer.work, now_ns) if answer.broker == state.name else None
    if job is None:
        return None
    step_ns = min(step_ns, now_ns - job.sent_ns)  # a step can't take longer than since it was sent
    if step_ns:  # not known of a step that failed
        state.liveness.learn(peer.hello.role, job.units, step_ns)
    state.metrics.step(peer.hello.role, len(job.frames), step_ns)
    return job


def commit(state: State, peer: Peer, message: Commit, records: Sequence[Buffer], now_ns: int) -> None:
    """Count what display has written, and publish the records that are new."""
    ledger = state.ledgers.get(message.source)
    if ledger is None:  # unknown to a new broker
        return
    offset = message.committed.offset
    step_ns = min(message.step_ns, peer.commit(message.source, offset, now_ns))
    records = records[: ledger.commit(offset)]
    ledger.in_view = message.in_view, message.more
    state.lifetime.last_commit_ns = now_ns
    state.metrics.step("display", len(records), step_ns)
    state.liveness.learn("display", len(records), step_ns)
    state.metrics.add_latencies(message.latency_ns[: len(records)])
    state.outbox.records.extend(records)
    capture = state.peers.of_source(message.source)
    if capture is not None and ledger.info.kind == "live":
        state.send(capture.identity, Grant(message.source, 0, ledger.committed, encoding(state, capture)))


def stop(state: State, reason: str, now_ns: int) -> None:
    if state.lifetime.stopping:
        return
    state.lifetime.stopping = reason
    state.lifetime.stop_deadline_ns = now_ns + round(DRAIN_S * 1e9)
    for peer in state.peers.of("capture"):
        state.send(peer.identity, StopCapture())
