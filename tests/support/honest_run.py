"""A run of simulated stages for hypothesis to drive. They behave as real ones do, and die at any moment."""

from collections import deque
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.broker.state import Outgoing
from pipeline.wire.messages import (
    Accept,
    Commit,
    Committed,
    Delivery,
    Frame,
    Grant,
    Hello,
    SourceEnded,
    StatusReport,
    StepFailed,
    Work,
)
from tests.support.broker_world import (
    World,
    classified,
    detected,
    make_broker,
    make_frame,
    make_hello,
    make_no_frame,
    make_source,
    pixels,
)

LENGTH = 12  # frames of the file


class Run(RuleBasedStateMachine):
    """One file and one live source; detectors, a classifier and a display that come and go."""

    FINGERPRINT = ""  # of the workers' models
    ROLES: tuple[str, ...] = ("display", "detect", "classify", "clip", "cam")  # that are there
    HOSTILE = False  # whether others take part who break the rules

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.starts = 0
        self.world.join("supervisor", "supervisor")
        self.records: dict[str, list[str]] = {"clip": [], "cam": []}  # what display has written, by source
        self.window: deque[Frame] = deque()  # of the file: not known to be written
        self.next = {"clip": 0, "cam": 0}
        self.epoch = {"clip": 0, "cam": 0}
        self.credits = {"clip": 0, "cam": 0}
        self.ended = False
        self.names = dict.fromkeys(self.ROLES, "")
        for role in self.names:
            self.start(role)

    def make_world(self) -> World:
        return World(make_broker(sources=["clip", "cam"]))

    # --------------------------------------------------------------------------------- the stages

    def start(self, role: str) -> None:
        """Start a stage, or restart it: a new identity of the same instance."""
        self.starts += 1
        self.names[role] = f"{role}-{self.starts}"
        self.world.give(self.names[role], self.hello(role))
        self.listen()

    def hello(self, role: str) -> Hello:
        instance: dict[str, Any] = {"instance": role}
        if role == "display":
            committed = {name: self.committed(name) for name in self.records}
            return make_hello(
                "display", "display", credits=3, wants_pixels=True, committed=committed, **instance
            )
        if role in ("detect", "classify"):
            instance["fingerprint"] = self.FINGERPRINT
            return make_hello(role, role, credits=2 if role == "detect" else 1, **instance)
        return make_hello(
            "capture", role, source=make_source(role, "live" if role == "cam" else "file"), **instance
        )

    def committed(self, source: str) -> Committed:
        records = self.records[source]
        dropped = {reason: records.count(reason) for reason in set(records) - {"ok", "failed"}}
        return Committed(len(records), records.count("ok"), records.count("failed"), dropped)

    def listen(self) -> None:
        """The captures take in what they were sent."""
        for source in sorted({"clip", "cam"} & set(self.names)):
            for accept in self.world.take(self.names[source], Accept):
                self.epoch[source], self.credits[source] = accept.epoch, 0
                if source == "clip":
                    self.window = deque(f for f in self.window if f.sequence >= accept.next_sequence)
                    self.next["clip"] = accept.next_sequence
                else:
                    self.next["cam"] = max(self.next["cam"], accept.next_sequence)
            for grant in self.world.take(self.names[source], Grant):
                self.credits[source] += grant.credits

    @rule(unreadable=st.booleans())
    def capture_file(self, unreadable: bool) -> None:
        if self.credits["clip"] > 0 and self.next["clip"] < LENGTH:
            sequence = self.next["clip"]
            self.next["clip"] += 1
            self.credits["clip"] -= 1
            self.send_file_frame(sequence, unreadable)

    def send_file_frame(self, sequence: int, unreadable: bool) -> None:
        epoch = self.epoch["clip"]
        if unreadable:
            failed = make_no_frame(sequence, epoch=epoch, status="failed", reason="failed")
            self.world.give(self.names["clip"], failed)
        else:
            frame = make_frame(sequence, epoch=epoch)
            self.world.give(self.names["clip"], frame, [pixels(frame)])
        self.listen()

    @rule()
    def capture_live(self) -> None:
        if self.epoch["cam"] == 0:
            return
        sequence, epoch = self.next["cam"], self.epoch["cam"]
        self.next["cam"] += 1
        if self.credits["cam"] > 0:
            self.credits["cam"] -= 1
            frame = make_frame(sequence, "cam", epoch)
            self.world.give(self.names["cam"], frame, [pixels(frame)])
        else:
            self.world.give(self.names["cam"], make_no_frame(sequence, "cam", epoch))
        self.listen()

    @rule(faces=st.integers(0, 11), fails=st.integers(0, 9))
    def detect(self, faces: int, fails: int) -> None:
        work = self.world.take(self.names["detect"], Work)
        for item in work[:1]:
            if fails == 0:
                self.world.give(self.names["detect"], StepFailed(item.broker, item.work, "failed"))
            else:
                self.world.give(self.names["detect"], *detected(item, faces))
        self.give_back("detect", work[1:])

    @rule()
    def classify(self) -> None:
        for item in self.world.take(self.names["classify"], Work):
            self.world.give(self.names["classify"], *classified(item))

    @rule(how_many=st.integers(1, 4))
    def write(self, how_many: int) -> None:
        deliveries = self.world.take(self.names["display"], Delivery)
        for item in deliveries[:how_many]:
            self.write_one(item)
        self.give_back("display", deliveries[how_many:])
        self.listen()

    def write_one(self, item: Delivery) -> None:
        records = self.records[item.source]
        assert item.sequence <= len(records), "in order, without gaps"
        fresh = item.sequence == len(records)
        if fresh:
            records.append(item.status if item.status != "dropped" else item.reason)
        written = Commit(item.source, self.committed(item.source), [5] * fresh, 5)
        self.world.give(self.names["display"], written, [b"{}"] * fresh)

    def give_back(self, role: str, messages: list[Any]) -> None:
        """What a stage has not yet looked at is still in its inbox."""
        identity = self.names[role].encode()
        inbox = self.world.sent.setdefault(identity, [])
        inbox[:0] = [Outgoing(identity, message) for message in messages]

    @rule(role=st.sampled_from(["detect", "classify", "clip", "cam"]))
    def die(self, role: str) -> None:
        self.world.sent.pop(self.names[role].encode(), None)
        self.start(role)

    @rule(had_written=st.integers(0, 3))
    def display_dies(self, had_written: int) -> None:
        """Some of what it had been delivered may be written with nobody told."""
        for item in self.world.take(self.names["display"], Delivery)[:had_written]:
            if item.sequence == len(self.records[item.source]):
                self.records[item.source].append(item.status if item.status != "dropped" else item.reason)
        self.start("display")

    @rule(ms=st.sampled_from([60.0, 700.0]))
    def time_passes(self, ms: float) -> None:
        for name in ["supervisor", *self.names.values()]:
            self.world.broker.state.peers.get(name.encode()).last_seen_ns = self.world.now_ns  # type: ignore[union-attr]
        self.world.pass_time(ms)
        self.listen()

    # --------------------------------------------------------------------------------- what must hold

    @invariant()
    def the_books_balance(self) -> None:
        self.world.broker.state.outbox.next_report_ns = 0
        self.world.pass_time(0)
        report = self.world.take("supervisor", StatusReport)[-1]
        for source in report.sources:
            p = source.committed
            assert p.offset == p.ok + p.failed + sum(p.dropped.values())
            assert source.captured == p.offset + source.in_flight
            assert source.in_flight >= 0
            assert len(self.records[source.name]) >= p.offset
            if source.kind == "file":
                assert source.in_flight <= 4
        assert report.held_bytes >= 0
        assert self.HOSTILE or report.bad_messages == 0

    def teardown(self) -> None:
        """From wherever the run has come: with everybody alive, all finds its outcome and the run ends."""
        for _ in range(4 * LENGTH):
            self.capture_file(False)
            for _ in range(3):
                self.detect(1, 5)
            self.classify()
            self.write(8)
        assert len(self.records["clip"]) == self.next["clip"] == LENGTH
        assert len(self.records["cam"]) == self.next["cam"]
        ledgers = self.world.broker.state.ledgers.values()
        assert [ledger.held_bytes for ledger in ledgers] == [0, 0]
        for source in ("clip", "cam"):
            ended = SourceEnded(source, self.epoch[source], self.next[source])
            self.world.give(self.names[source], ended)
        assert self.world.broker.finished
