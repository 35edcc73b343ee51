"""What each message of a stage does to the run."""

from collections.abc import Sequence

import numpy as np

from pipeline.broker.admission import lose
from pipeline.broker.dispatch import encoding
from pipeline.broker.ledger import SourceLedger
from pipeline.broker.peers import Job, Peer
from pipeline.broker.state import State, source_of
from pipeline.emotions import EMOTIONS
from pipeline.messages import (
    AnyMessage,
    Buffer,
    Classified,
    Clock,
    Detected,
    Died,
    Frame,
    Goodbye,
    Grant,
    Heartbeat,
    NoFrame,
    Progress,
    SourceEnded,
    SourceInfo,
    StepFailed,
    StopCapture,
    StopRequest,
    Written,
)


def take_in(state: State, peer: Peer, message: AnyMessage, buffers: Sequence[Buffer], now_ns: int) -> None:
    """Hand a message to its method; one that its sender's role does not send counts as bad."""
    match message, peer.hello.role:
        case Heartbeat(), _:
            heartbeat(state, peer, message, now_ns)
        case Goodbye(), _:
            lose(state, peer, died=False)
        case (Frame() | NoFrame(), "capture"):
            frame(state, peer, message, buffers[0] if buffers else None, now_ns)
        case SourceEnded(), "capture":
            source_ended(state, peer, message)
        case Detected(), "detect":
            detected(state, peer, message, buffers[0], now_ns)
        case Classified(), "classify":
            classified(state, peer, message, buffers[0])
        case StepFailed(), ("detect" | "classify"):
            step_failed(state, peer, message)
        case Written(), "display":
            written(state, peer, message, buffers, now_ns)
        case StopRequest(), ("display" | "parent"):
            stop(state, message.reason, now_ns)
        case Died(), "parent":
            for dead in state.peers.in_slot(message.slot):
                lose(state, dead)
        case SourceEnded(), "parent":
            source_lost(state, message)
        case _:
            state.meters.bad_messages += 1


def heartbeat(state: State, peer: Peer, message: Heartbeat, now_ns: int) -> None:
    """Note how the stage's clock stands to this one, and tell it the time if it wants it."""
    peer.heartbeat = message
    if message.sent_ns:
        state.send(peer.identity, Clock(message.sent_ns, now_ns))


def frame(state: State, peer: Peer, header: Frame | NoFrame, pixels: Buffer | None, now_ns: int) -> None:
    ledger = state.ledgers.get(header.source)
    if ledger is None or header.source != source_of(peer.hello):
        state.meters.bad_messages += 1
        return
    live = ledger.info.kind == "live"
    if not (live and isinstance(header, NoFrame)):
        peer.granted = max(0, peer.granted - 1)
    entry = ledger.receive(header, pixels, now_ns)
    if entry is None:
        state.meters.late_answers += 1
    elif entry.phase == "waiting" and state.stopping and now_ns >= state.stop_deadline_ns:
        state.settle(entry, "dropped", "stopped")
    elif entry.phase == "waiting" and live:
        replaced = state.queue.put_live(entry)
        if replaced is not None:
            state.settle(replaced, "dropped", "superseded")
    elif entry.phase == "waiting":
        state.queue.put_file(entry)


def source_ended(state: State, peer: Peer, message: SourceEnded) -> None:
    ledger = state.ledgers.get(message.source)
    if ledger is None or message.source != source_of(peer.hello) or message.epoch != ledger.epoch:
        state.meters.late_answers += 1
        return
    if ledger.ended:
        return
    if message.frames != ledger.next_sequence:
        ledger.error = (
            f"{message.source}: {message.frames} frames were captured and {ledger.next_sequence} arrived"
        )
    ledger.ended = True
    ledger.error = ledger.error or message.error


def source_lost(state: State, message: SourceEnded) -> None:
    """The parent could not keep the capture process alive: the source ends with what has arrived."""
    ledger = state.ledgers.get(message.source)
    if ledger is None:  # this broker is new, and never knew the capture
        ledger = SourceLedger(SourceInfo(message.source, "file", 1, 1, 0.0), keep_pixels=False)
        ledger.merge(state.known.pop(message.source, Progress()))
        state.ledgers[message.source] = ledger
    if not ledger.ended:
        ledger.ended, ledger.error = True, message.error


def detected(state: State, peer: Peer, answer: Detected, crops: Buffer, now_ns: int) -> None:
    job = answered(state, peer, answer, answer.step_ns)
    if job is None:
        return
    entry = job.frames[0]
    if entry.phase == "settled":
        return
    state.ledgers[entry.source].detected(entry, answer.faces, crops)
    if answer.faces:
        state.batcher.put(entry, now_ns)


def classified(state: State, peer: Peer, answer: Classified, buffer: Buffer) -> None:
    job = answered(state, peer, answer, answer.step_ns)
    if job is None:
        return
    if answer.crops != sum(piece.count for piece in job.slices):
        state.meters.bad_messages += 1
        fail(state, job, "classify_answer_wrong")
        return
    state.meters.batches[answer.crops] += 1
    probabilities = np.frombuffer(buffer, np.float32).reshape(-1, len(EMOTIONS))
    at = 0
    for piece in job.slices:
        if piece.entry.phase != "settled":
            part = probabilities[at : at + piece.count]
            state.ledgers[piece.entry.source].classified(piece.entry, piece.start, part)
        at += piece.count


def step_failed(state: State, peer: Peer, answer: StepFailed) -> None:
    job = answered(state, peer, answer, 0)
    if job is not None:
        fail(state, job, answer.reason)


def answered(
    state: State, peer: Peer, answer: Detected | Classified | StepFailed, step_ns: int
) -> Job | None:
    """The job that an answer is for; None if it is late: of another broker or of lost work."""
    job = peer.jobs.pop(answer.work, None) if answer.broker == state.name else None
    if job is None:
        state.meters.late_answers += 1
        return None
    if step_ns:  # a step that failed tells nothing
        state.patience.learn(peer.hello.role, job.units, step_ns)
    state.meters.step(peer.hello.role, len(job.frames), step_ns)
    return job


def fail(state: State, job: Job, reason: str) -> None:
    for entry in job.frames:
        if entry.phase != "settled":
            state.settle(entry, "failed", reason)


def written(state: State, peer: Peer, message: Written, records: Sequence[Buffer], now_ns: int) -> None:
    ledger = state.ledgers.get(message.source)
    if ledger is None:
        state.meters.bad_messages += 1
        return
    up_to = message.progress.written
    peer.deliveries = {d for d in peer.deliveries if d[0] != message.source or d[1] >= up_to}
    ledger.written(up_to)
    state.last_written_ns = now_ns
    state.meters.step("display", len(records), message.step_ns)
    state.patience.learn("display", len(records), message.step_ns)
    state.meters.written(message.latency_ns)
    state.records.extend(records)
    capture = state.peers.of_source(message.source)
    if capture is not None and ledger.info.kind == "live":
        state.send(capture.identity, Grant(message.source, 0, ledger.progress, encoding(state, capture)))


def stop(state: State, reason: str, now_ns: int) -> None:
    if state.stopping:
        return
    state.stopping = reason
    state.stop_deadline_ns = now_ns + round(state.rules.drain_s * 1e9)
    for peer in state.peers.of("capture"):
        state.send(peer.identity, StopCapture())
