"""The broker's logic: a message and the time go in, messages to send come out. No socket is in here.

It keeps the ledger of each source, gives frames to detectors and crops to classifiers against credits,
takes back what a dead worker held, and delivers outcomes in order. `broker_process` moves the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.batcher import Batcher
from pipeline.emotions import EMOTIONS
from pipeline.ledger import Entry, SourceLedger
from pipeline.messages import (
    PROTOCOL,
    AnyMessage,
    Buffer,
    Classified,
    ClassifyWork,
    Delivery,
    Detected,
    DetectWork,
    Died,
    End,
    EndOfSource,
    Expect,
    Frame,
    Goodbye,
    Grant,
    Heartbeat,
    Hello,
    Introduce,
    Message,
    NoFrame,
    PeerReport,
    Progress,
    Refused,
    SourceEnded,
    SourceReport,
    StatusReport,
    StepFailed,
    StopCapture,
    StopRequest,
    Welcome,
    Written,
)
from pipeline.meters import Meters
from pipeline.peers import Job, Peer, Peers
from pipeline.scheduler import DetectQueue
from pipeline.settings import BrokerSettings

REPORT_INTERVAL_NS = 250_000_000
LIVE_CREDITS = 2  # frames of a live source on their way to the broker: one travels while one arrives
LIVE_ACTIVE = 8  # frames of a live source past their slot: more would only grow old
MAX_DEATHS_ALONE = 2


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent to one peer."""

    identity: bytes
    message: Message
    buffers: Sequence[Buffer] = ()


@dataclass(frozen=True, slots=True)
class BrokerRules:
    """What the broker needs to know of the other tables."""

    settings: BrokerSettings
    file_window: int
    max_batch: int
    max_delay_ms: float
    drain_s: float  # after a stop: how long frames under way may take


class Broker:
    """The state of a run. Every public method returns nothing: `drain` gives what is to be sent."""

    def __init__(self, name: str, rules: BrokerRules) -> None:
        self.name = name
        self._rules = rules
        self._timeout_ns = round(rules.settings.peer_timeout_s * 1e9)
        self._peers = Peers()
        self._ledgers: dict[str, SourceLedger] = {}
        self._known: dict[str, Progress] = {}  # progress of sources whose capture is not here yet
        self._slots: dict[str, str] = {}  # source -> slot of its capture
        self._fingerprints: dict[str, str] = {}
        self._expected: list[str] | None = None
        self._queue = DetectQueue(rules.settings.file_share)
        self._batcher = Batcher(rules.max_batch, round(rules.max_delay_ms * 1e6))
        self._meters = Meters()
        self._next_work = 0
        self._next_report_ns = 0
        self._started = False
        self._started_ns = 0
        self._last_written_ns = 0
        self._stopping = ""
        self._stop_deadline_ns = 0
        self._ended_sources: set[str] = set()
        self._given_up: list[PeerReport] = []
        self._outgoing: list[Outgoing] = []
        self._records: list[Buffer] = []
        self._notes: list[str] = []
        self.finished = False

    # ------------------------------------------------------------------ the interface of the process

    def receive(self, identity: bytes, message: AnyMessage, buffers: Sequence[Buffer], now_ns: int) -> None:
        """Take in a message that has been checked by `messages.decode`."""
        if isinstance(message, Hello):
            self._hello(identity, message, now_ns)
        else:
            peer = self._peers.get(identity)
            if peer is None:
                if not isinstance(message, Goodbye):
                    self._send(identity, Introduce())
                return
            peer.heard_ns = now_ns
            self._dispatch(peer, message, buffers, now_ns)
        self._pump(now_ns)

    def bad_message(self, identity: bytes) -> None:
        """Count a message that could not be decoded."""
        self._meters.bad_messages += 1

    def unreachable(self, identity: bytes, now_ns: int) -> None:
        """A message could not be sent: the peer's connection is gone."""
        peer = self._peers.get(identity)
        if peer is not None:
            self._lose(peer)
            self._pump(now_ns)

    def tick(self, now_ns: int) -> None:
        """Do what time brings: give up silent peers, drop what waited too long, report."""
        for peer in self._peers:
            if now_ns - peer.heard_ns > peer.limit_ns(self._timeout_ns):
                silent_s = (now_ns - peer.heard_ns) / 1e9
                self._notes.append(f"{peer.hello.name} has been silent for {silent_s:.1f} s and is given up")
                self._given_up.append(self._peer_report(peer, now_ns, given_up=True))
                self._lose(peer)
        self._drop_stale(now_ns)
        if self._stopping and now_ns >= self._stop_deadline_ns:
            self._abandon()
        self._pump(now_ns)
        if now_ns >= self._next_report_ns:
            self._report(now_ns)

    def slept(self, gap_ns: int) -> None:
        """The broker itself was stopped for so long: nobody else is to blame for that silence."""
        for peer in self._peers:
            peer.heard_ns += gap_ns

    def due_ns(self) -> int | None:
        """When a batch is due that still waits for company."""
        return self._batcher.due_ns() if self._rules.max_delay_ms else None

    def drain(self) -> tuple[list[Outgoing], list[Buffer], list[str]]:
        """Return and forget the messages to send, the records (JSON) to publish and what to log."""
        drained = self._outgoing, self._records, self._notes
        self._outgoing, self._records, self._notes = [], [], []
        return drained

    @property
    def peers_left(self) -> bool:
        """Whether stages are still closing after the end."""
        return any(peer.hello.role != "parent" for peer in self._peers)

    # ------------------------------------------------------------------------------ peers come and go

    def _hello(self, identity: bytes, hello: Hello, now_ns: int) -> None:
        reason = self._refusal(hello)
        if reason:
            self._notes.append(f"refused: {reason}")
            self._send(identity, Refused(reason))
            return
        for old in self._peers.in_slot(hello.slot):
            self._lose(old)
        same = self._peers.get(identity)
        if same is not None:
            self._lose(same)
        if hello.fingerprint:
            self._fingerprints.setdefault(hello.role, hello.fingerprint)
        peer = Peer(identity, hello, now_ns)
        self._peers.add(peer)
        if hello.role == "display":
            self._welcome_display(peer)
        elif hello.role == "capture":
            self._slots[_source(hello)] = hello.slot
        else:
            self._welcome(peer)
            if self.finished:
                self._send(identity, End())
        self._welcome_captures()

    def _refusal(self, hello: Hello) -> str:
        """Why a peer may not take part; empty if it may."""
        if hello.protocol != PROTOCOL:
            return f"this broker speaks protocol {PROTOCOL}, {hello.name} speaks {hello.protocol}: update one"
        agreed = self._fingerprints.get(hello.role)
        if agreed and hello.fingerprint != agreed:
            return (
                f"{hello.name}: its model is not the one that this run uses: "
                f"expected {agreed}, found {hello.fingerprint}; use the same file on every machine"
            )
        if hello.role == "display" and any(p.hello.slot != hello.slot for p in self._peers.of("display")):
            return f"{hello.name}: the run has a display already; it takes one"
        if hello.role == "capture":
            if hello.source is None:
                return f"{hello.name}: a capture must name its source"
            if self._slots.get(hello.source.name, hello.slot) != hello.slot:
                return f"source {hello.source.name!r} is captured by another process already"
        return ""

    def _welcome(self, peer: Peer, epoch: int = 0, next_sequence: int = 0, paced: bool = False) -> None:
        progress = {name: ledger.progress for name, ledger in self._ledgers.items()}
        peer.welcomed = True
        self._send(peer.identity, Welcome(self.name, epoch, next_sequence, paced, progress))

    def _welcome_display(self, peer: Peer) -> None:
        for name, progress in peer.hello.progress.items():
            if name in self._ledgers:
                self._ledgers[name].merge(progress)
            else:
                self._known[name] = progress
        for ledger in self._ledgers.values():
            ledger.keep_pixels = peer.hello.wants_pixels
            ledger.deliver_again()
        self._welcome(peer)
        for name in self._ended_sources:
            self._send(peer.identity, EndOfSource(name))
        if self.finished:
            self._send(peer.identity, End())

    def _welcome_captures(self) -> None:
        """Captures are welcomed once display has said what it has written already."""
        displays = self._peers.of("display")
        if not displays:
            return
        for peer in self._peers.of("capture"):
            if not peer.welcomed:
                self._welcome_capture(peer, displays[0].hello)

    def _welcome_capture(self, peer: Peer, display: Hello) -> None:
        info = peer.hello.source
        assert info is not None
        ledger = self._ledgers.get(info.name)
        if ledger is None:
            ledger = self._ledgers[info.name] = SourceLedger(info, display.wants_pixels)
            ledger.merge(self._known.pop(info.name, Progress()))
        ledger.merge(peer.hello.progress.get(info.name, Progress()))
        ledger.epoch += 1
        self._welcome(peer, ledger.epoch, ledger.next_sequence, display.watched)
        if self._stopping or self.finished:
            self._send(peer.identity, StopCapture())
        if self.finished:
            self._send(peer.identity, End())

    def _lose(self, peer: Peer, *, died: bool = True) -> None:
        """Take back what a peer held that died, was given up, was replaced or left of its own will."""
        self._peers.remove(peer)
        if died and not self.finished:
            self._notes.append(f"{peer.hello.name} is gone; it held {len(peer.jobs)} pieces of work")
        for job in peer.jobs.values():
            for entry in job.frames:
                self._retry(entry, job, died)

    def _retry(self, entry: Entry, job: Job, died: bool) -> None:
        """A worker is gone with a frame: try the frame again alone, or give it up."""
        if entry.phase == "settled":
            return
        entry.deaths_alone += died and job.alone
        if entry.deaths_alone >= MAX_DEATHS_ALONE:
            self._settle(entry, "failed", "worker_died")
        elif entry.phase == "detecting":
            entry.phase = "waiting"
            self._queue.put_suspect(entry)
        else:
            for piece in job.slices:
                if piece.entry is entry:
                    self._batcher.put_back(piece)

    # --------------------------------------------------------------------------------- messages come in

    def _dispatch(self, peer: Peer, message: AnyMessage, buffers: Sequence[Buffer], now_ns: int) -> None:
        """Hand a message to its method; one that its sender's role does not send counts as bad."""
        match message, peer.hello.role:
            case Heartbeat(), _:
                pass
            case Goodbye(), _:
                self._lose(peer, died=False)
            case (Frame() | NoFrame(), "capture"):
                self._frame(peer, message, buffers[0] if buffers else None, now_ns)
            case SourceEnded(), "capture":
                self._source_ended(peer, message)
            case Detected(), "detect":
                self._detected(peer, message, buffers[0], now_ns)
            case Classified(), "classify":
                self._classified(peer, message, buffers[0])
            case StepFailed(), ("detect" | "classify"):
                self._step_failed(peer, message)
            case Written(), "display":
                self._written(peer, message, buffers, now_ns)
            case StopRequest(), ("display" | "parent"):
                self._stop(message.reason, now_ns)
            case Died(), "parent":
                for dead in self._peers.in_slot(message.slot):
                    self._lose(dead)
            case SourceEnded(), "parent":
                self._source_lost(message)
            case Expect(), "parent":
                self._expected = message.sources
            case _:
                self._meters.bad_messages += 1

    def _frame(self, peer: Peer, header: Frame | NoFrame, pixels: Buffer | None, now_ns: int) -> None:
        ledger = self._ledgers.get(header.source)
        if ledger is None or header.source != _source(peer.hello):
            self._meters.bad_messages += 1
            return
        live = ledger.info.kind == "live"
        if not (live and isinstance(header, NoFrame)):
            peer.granted = max(0, peer.granted - 1)
        entry = ledger.receive(header, pixels, now_ns)
        if entry is None:
            self._meters.late_answers += 1
        elif entry.phase == "waiting" and self._stopping and now_ns >= self._stop_deadline_ns:
            self._settle(entry, "dropped", "stopped")
        elif entry.phase == "waiting" and live:
            replaced = self._queue.put_live(entry)
            if replaced is not None:
                self._settle(replaced, "dropped", "superseded")
        elif entry.phase == "waiting":
            self._queue.put_file(entry)

    def _source_ended(self, peer: Peer, message: SourceEnded) -> None:
        ledger = self._ledgers.get(message.source)
        if ledger is None or message.source != _source(peer.hello) or message.epoch != ledger.epoch:
            self._meters.late_answers += 1
            return
        if message.frames != ledger.next_sequence:
            ledger.error = (
                f"{message.source}: {message.frames} frames were captured and {ledger.next_sequence} arrived"
            )
        ledger.ended = True
        ledger.error = ledger.error or message.error

    def _source_lost(self, message: SourceEnded) -> None:
        """The parent could not keep the capture process alive: the source ends with what has arrived."""
        ledger = self._ledgers.get(message.source)
        if ledger is not None and not ledger.ended:
            ledger.ended, ledger.error = True, message.error

    def _detected(self, peer: Peer, answer: Detected, crops: Buffer, now_ns: int) -> None:
        job = self._answered(peer, answer, answer.step_ns)
        if job is None:
            return
        entry = job.frames[0]
        if entry.phase == "settled":
            return
        self._ledgers[entry.source].detected(entry, answer.faces, crops)
        if answer.faces:
            self._batcher.put(entry, now_ns)

    def _classified(self, peer: Peer, answer: Classified, buffer: Buffer) -> None:
        job = self._answered(peer, answer, answer.step_ns)
        if job is None:
            return
        if answer.crops != sum(piece.count for piece in job.slices):
            self._meters.bad_messages += 1
            self._fail(job, "classify_answer_wrong")
            return
        self._meters.batches[answer.crops] += 1
        probabilities = np.frombuffer(buffer, np.float32).reshape(-1, len(EMOTIONS))
        at = 0
        for piece in job.slices:
            if piece.entry.phase != "settled":
                part = probabilities[at : at + piece.count]
                self._ledgers[piece.entry.source].classified(piece.entry, piece.start, part)
            at += piece.count

    def _step_failed(self, peer: Peer, answer: StepFailed) -> None:
        job = self._answered(peer, answer, 0)
        if job is not None:
            self._fail(job, answer.reason)

    def _answered(self, peer: Peer, answer: Detected | Classified | StepFailed, step_ns: int) -> Job | None:
        """The job that an answer is for; None if it is late: of another broker or of lost work."""
        job = peer.jobs.pop(answer.work, None) if answer.broker == self.name else None
        if job is None:
            self._meters.late_answers += 1
            return None
        peer.longest_step_ns = max(peer.longest_step_ns, step_ns)
        self._meters.step(peer.hello.role, len(job.frames), step_ns)
        return job

    def _fail(self, job: Job, reason: str) -> None:
        for entry in job.frames:
            if entry.phase != "settled":
                self._settle(entry, "failed", reason)

    def _written(self, peer: Peer, message: Written, records: Sequence[Buffer], now_ns: int) -> None:
        ledger = self._ledgers.get(message.source)
        if ledger is None:
            self._meters.bad_messages += 1
            return
        up_to = message.progress.written
        peer.deliveries = {d for d in peer.deliveries if d[0] != message.source or d[1] >= up_to}
        ledger.written(up_to)
        self._last_written_ns = now_ns
        self._meters.step("display", len(records), message.step_ns)
        self._meters.written(message.latency_ns)
        self._records.extend(records)
        capture = self._peers.of_source(message.source)
        if capture is not None and ledger.info.kind == "live":
            self._send(capture.identity, Grant(message.source, 0, ledger.progress))

    def _stop(self, reason: str, now_ns: int) -> None:
        if self._stopping:
            return
        self._stopping = reason
        self._stop_deadline_ns = now_ns + round(self._rules.drain_s * 1e9)
        for peer in self._peers.of("capture"):
            self._send(peer.identity, StopCapture())

    # -------------------------------------------------------------------------------- what time brings

    def _drop_stale(self, now_ns: int) -> None:
        limit_ns = round(self._rules.settings.live_max_wait_ms * 1e6)
        for entry in self._queue.live_waiting():
            if now_ns - entry.received_ns > limit_ns:
                self._settle(entry, "dropped", "stale")

    def _abandon(self) -> None:
        """After a stop, when the time for what was under way is over."""
        for ledger in self._ledgers.values():
            ledger.ended = True
            for entry in list(ledger.entries.values()):
                if entry.phase != "settled":
                    self._settle(entry, "dropped", "stopped")

    def _settle(self, entry: Entry, status: str, reason: str) -> None:
        self._queue.remove(entry)
        self._batcher.remove(entry)
        assert status in ("dropped", "failed")
        self._ledgers[entry.source].settle(entry, "dropped" if status == "dropped" else "failed", reason)

    # ---------------------------------------------------------------------------------- work goes out

    def _pump(self, now_ns: int) -> None:
        """Send whatever can be sent now."""
        self._start_if_complete(now_ns)
        self._send_detect_work()
        self._send_classify_work(now_ns)
        self._deliver()
        if self._started and not self._stopping:
            self._grant()
        self._end_if_done()

    def _start_if_complete(self, now_ns: int) -> None:
        """Frames flow once every source is open and every role is there."""
        if self._started:
            return
        here = {_source(p.hello) for p in self._peers.of("capture") if p.welcomed}
        sources_open = bool(here) if self._expected is None else here >= set(self._expected)
        roles = all(self._peers.of(role) for role in ("detect", "classify", "display"))
        self._started = sources_open and roles
        self._started_ns = self._last_written_ns = now_ns

    def _send_detect_work(self) -> None:
        """Frames go to the least busy workers first; a second one only ever waits behind a file's frame."""
        any_live = any(ledger.info.kind == "live" and not ledger.ended for ledger in self._ledgers.values())
        workers = sorted(self._peers.of("detect"), key=lambda peer: len(peer.jobs))
        for turn in range(max((peer.hello.credits for peer in workers), default=0)):
            for peer in workers:
                if len(peer.jobs) != turn or peer.free <= 0 or peer.has_suspect or (turn and any_live):
                    continue
                if self._queue.suspects and peer is workers[0]:
                    # The least busy worker gets nothing new until it can take the suspect alone.
                    if not peer.jobs:
                        self._detect(peer, self._queue.suspects.popleft(), alone=True)
                    continue
                entry = self._queue.take(live=not peer.jobs, blocked=self._blocked())
                if entry is not None:
                    self._detect(peer, entry, alone=False)

    def _blocked(self) -> frozenset[str]:
        return frozenset(
            name
            for name, ledger in self._ledgers.items()
            if ledger.info.kind == "live" and ledger.active >= LIVE_ACTIVE
        )

    def _detect(self, peer: Peer, entry: Entry, *, alone: bool) -> None:
        assert isinstance(entry.header, Frame) and entry.pixels is not None
        entry.phase = "detecting"
        work = self._new_job(peer, Job([entry], [], alone))
        self._send(peer.identity, DetectWork(self.name, work, entry.header.shape), [entry.pixels])

    def _send_classify_work(self, now_ns: int) -> None:
        workers = sorted(self._peers.of("classify"), key=lambda peer: len(peer.jobs))
        for peer in workers:
            while peer.free > 0 and not peer.has_suspect:
                suspect = self._batcher.take_suspect() if not peer.jobs else None
                slices = [suspect] if suspect else self._batcher.take(now_ns)
                if not slices:
                    break
                frames = list({id(piece.entry): piece.entry for piece in slices}.values())
                work = self._new_job(peer, Job(frames, slices, alone=suspect is not None))
                message = ClassifyWork(self.name, work, sum(piece.count for piece in slices))
                self._send(peer.identity, message, [piece.crops for piece in slices])

    def _new_job(self, peer: Peer, job: Job) -> int:
        self._next_work += 1
        peer.jobs[self._next_work] = job
        return self._next_work

    def _deliver(self) -> None:
        """Outcomes go to display in order within each source, the sources taking turns."""
        for display in self._peers.of("display"):
            more = True
            while more:
                more = False
                for ledger in self._ledgers.values():
                    entry = ledger.deliverable() if display.free > 0 else None
                    if entry is not None:
                        self._send_delivery(display, ledger, entry)
                        more = True

    def _send_delivery(self, display: Peer, ledger: SourceLedger, entry: Entry) -> None:
        header = entry.header
        pixels = entry.pixels if display.hello.wants_pixels else None
        shape = header.shape if pixels is not None and isinstance(header, Frame) else None
        buffers: list[Buffer] = [] if entry.probabilities is None else [entry.probabilities.tobytes()]
        if pixels is not None:
            buffers.append(pixels)
        message = Delivery(
            header.source,
            header.sequence,
            header.captured_ns,
            header.time_s,
            entry.status,
            entry.reason,
            header.file,
            entry.faces,
            shape,
            ledger.info.fps,
        )
        ledger.next_delivery += 1
        display.deliveries.add((header.source, header.sequence))
        self._send(display.identity, message, buffers)

    def _grant(self) -> None:
        """Let captures send: a live one so that its newest frame is always here, a file by its window."""
        share = self._rules.settings.max_bytes // max(1, len(self._ledgers))
        for peer in self._peers.of("capture"):
            ledger = self._ledgers.get(_source(peer.hello))
            if ledger is None or ledger.ended or not peer.welcomed:
                continue
            live = ledger.info.kind == "live"
            window = LIVE_CREDITS if live else self._rules.file_window - ledger.in_flight
            if ledger.held_bytes >= share:
                window = 0
            elif not live:
                frame_bytes = 3 * ledger.info.width * ledger.info.height
                window = min(window, max(1, (share - ledger.held_bytes) // frame_bytes))
            credits = window - peer.granted
            if credits > 0:
                peer.granted += credits
                self._send(peer.identity, Grant(ledger.info.name, credits, ledger.progress))

    def _end_if_done(self) -> None:
        for name, ledger in self._ledgers.items():
            if ledger.complete and name not in self._ended_sources:
                self._ended_sources.add(name)
                for display in self._peers.of("display"):
                    self._send(display.identity, EndOfSource(name))
        sources = set(self._ledgers) if self._expected is None else set(self._expected)
        done = self._started and bool(sources) and sources <= self._ended_sources
        nothing_left = all(ledger.complete for ledger in self._ledgers.values())
        if not self.finished and (done or (self._stopping and nothing_left)):
            self.finished = True
            for peer in self._peers:
                if peer.hello.role != "parent":
                    self._send(peer.identity, End())
            self._next_report_ns = 0  # tell the parent at once

    # -------------------------------------------------------------------------------------- reporting

    def _report(self, now_ns: int) -> None:
        self._next_report_ns = now_ns + REPORT_INTERVAL_NS
        interval_s, latency_ns = self._meters.take(now_ns)
        peers = [
            self._peer_report(p, now_ns, given_up=False) for p in self._peers if p.hello.role != "parent"
        ]
        message = StatusReport(
            broker=self.name,
            started=self._started,
            finished=self.finished,
            stopping=self._stopping,
            interval_s=interval_s,
            sources=[_source_report(ledger) for ledger in self._ledgers.values()],
            peers=peers + self._given_up,
            steps=dict(self._meters.steps),
            busy_ns=dict(self._meters.busy_ns),
            batches={str(size): count for size, count in self._meters.batches.items()},
            latency_ns=latency_ns,
            held_bytes=sum(ledger.held_bytes for ledger in self._ledgers.values()),
            elapsed_s=max(0, self._last_written_ns - self._started_ns) / 1e9,
            bad_messages=self._meters.bad_messages,
        )
        self._given_up = []
        for parent in self._peers.of("parent"):
            self._send(parent.identity, message)

    def _peer_report(self, peer: Peer, now_ns: int, *, given_up: bool) -> PeerReport:
        hello = peer.hello
        return PeerReport(hello.slot, hello.name, hello.role, (now_ns - peer.heard_ns) / 1e9, given_up)

    def _send(self, identity: bytes, message: Message, buffers: Sequence[Buffer] = ()) -> None:
        self._outgoing.append(Outgoing(identity, message, buffers))


def _source(hello: Hello) -> str:
    return hello.source.name if hello.source else ""


def _source_report(ledger: SourceLedger) -> SourceReport:
    return SourceReport(
        ledger.info.name,
        ledger.info.kind,
        ledger.captured,
        ledger.in_flight,
        ledger.progress,
        ledger.ended,
        ledger.error,
    )
