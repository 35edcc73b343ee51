"""Makes messages and small worlds for the tests; what a test does not care about has a default here."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pipeline.broker.broker import Broker
from pipeline.broker.spec import BrokerRules
from pipeline.broker.state import Outgoing
from pipeline.common.labels import EMOTIONS, FACE_SIZE
from pipeline.config.schema import BrokerSettings
from pipeline.wire.assignment import Assignment
from pipeline.wire.codec import pack
from pipeline.wire.messages import (
    PROTOCOL,
    Buffer,
    Frame,
    Heartbeat,
    Hello,
    Message,
    Result,
    SourceInfo,
    SourceKind,
    StatusReport,
    Work,
)
from stages.classify import spec as classify
from stages.detect import spec as detect
from stages.faces import PROBABILITIES, Face, pack_faces

MS = 1_000_000

Answer = tuple[Result, list[Buffer]]


def make_source(name: str = "clip", kind: SourceKind = "file", **changes: Any) -> SourceInfo:
    return SourceInfo(**{"name": name, "kind": kind, "width": 4, "height": 2, "fps": 25.0} | changes)


def make_frame(sequence: int, source: str = "clip", epoch: int = 1, **changes: Any) -> Frame:
    fields = {"captured_ns": sequence * 40 * MS, "time_s": sequence / 25, "shape": (2, 4, 3)}
    return Frame(source=source, epoch=epoch, sequence=sequence, **fields | changes)


def make_no_frame(sequence: int, source: str = "clip", epoch: int = 1, **changes: Any) -> Frame:
    fields = {"captured_ns": 0, "time_s": 0.0, "shape": None, "status": "dropped", "reason": "superseded"}
    return Frame(source=source, epoch=epoch, sequence=sequence, **fields | changes)


def pixels(frame: Frame) -> bytes:
    assert frame.shape is not None
    return bytes(int(np.prod(frame.shape)))


def make_faces(count: int) -> list[Face]:
    return [Face((float(10 * n), 0.0, 8.0, 8.0), 0.9) for n in range(count)]


def detected(work: Work, faces: int | list[Face] = 1, step_ns: int = 5, **changes: Any) -> Answer:
    """Return a detector's result, by default with so many faces, and its buffers."""
    found = make_faces(faces) if isinstance(faces, int) else faces
    arrays, buffers = pack(pack_faces(found, np.zeros((len(found), FACE_SIZE, FACE_SIZE), np.uint8)))
    return replace(Result(work.broker, work.work, len(found), arrays, step_ns), **changes), buffers


def probabilities(count: int) -> NDArray[np.float32]:
    """Each face is certainly happy."""
    rows = np.zeros((count, len(EMOTIONS)), np.float32)
    rows[:, EMOTIONS.index("happy")] = 1
    return rows


def classified(work: Work, items: int | None = None, step_ns: int = 5, **changes: Any) -> Answer:
    """Return a classifier's result, by default for as many items as it was sent, and its buffers."""
    count = work.items if items is None else items
    arrays, buffers = pack({PROBABILITIES.name: probabilities(count)})
    return replace(Result(work.broker, work.work, count, arrays, step_ns), **changes), buffers


def make_hello(role: str, name: str, **changes: Any) -> Hello:
    instance = "run" if role == "supervisor" else f"run/{name}"
    fields: dict[str, Any] = {"instance": instance, "pid": 1, "protocol": PROTOCOL}
    return Hello(role=role, name=name, **fields | changes)  # type: ignore[arg-type]


def make_report(**changes: Any) -> StatusReport:
    fields: dict[str, Any] = {
        "broker": "b", "started": True, "finished": False, "stopping": "", "interval_s": 0.25, "sources": [],
        "peers": [], "steps": {}, "busy_ns": {}, "batches": {}, "latency_ns": [], "held_bytes": 0,
        "elapsed_s": 1.0, "bad_messages": 0,
    }  # fmt: skip
    return StatusReport(**fields | changes)


def make_assignment(role: str, name: str, address: str = "", options: Any = None) -> Assignment:
    return Assignment(
        role=role,
        module=f"stages.{role}.main",
        name=name,
        instance=f"instance-{name}",
        supervisor_pid=1,
        address=address,
        publish="",
        max_message_bytes=10_000_000,
        log_level="info",
        options=msgspec.Raw(msgspec.json.encode(options)),
    )


def make_broker(
    settings: BrokerSettings | None = None,
    *,
    file_window: int = 4,
    max_batch: int = 8,
    max_delay_ms: float = 0.0,
    search_interval_s: float = 0.0,
    **rules: Any,
) -> Broker:
    steps = [
        detect.step(detect.DetectSettings(search_interval_ms=1000 * search_interval_s)),
        classify.step(classify.ClassifySettings(max_batch=max_batch, max_delay_ms=max_delay_ms)),
    ]
    settings = replace(settings or BrokerSettings(), file_window=file_window)
    return Broker("broker-a", BrokerRules(settings, steps, **{"owner": "run"} | rules))


class World:
    """A broker and the peers round it, its run's supervisor among them unless it is to come.

    `sent` holds what each peer was sent and has not yet looked at.
    """

    def __init__(self, broker: Broker | None = None, *, supervised: bool = True) -> None:
        self.broker = broker or make_broker()
        self.now_ns = 1_000_000_000
        self.sent: dict[bytes, list[Outgoing]] = {}
        self.published: list[Buffer] = []
        self.log_lines: list[str] = []
        self.joined: list[str] = []
        if supervised:
            self.join("supervisor", "supervisor")

    def give(self, peer: str, message: Message, buffers: Sequence[Buffer] = ()) -> None:
        self.broker.receive(peer.encode(), message, buffers, self.now_ns)  # type: ignore[arg-type]
        self.drain()

    def pass_time(self, ms: float) -> None:
        self.now_ns += round(ms * MS)
        self.broker.tick(self.now_ns)
        self.drain()

    def wait(self, seconds: int, silent: str = "") -> None:
        """Let time pass in which every peer shows that it is alive, but for the one that is silent."""
        for _ in range(seconds):
            self.pass_time(1_000)
            for peer in self.joined:
                if peer != silent:
                    self.give(peer, Heartbeat())

    def drain(self) -> None:
        outgoing, records, log_lines = self.broker.drain()
        for item in outgoing:
            self.sent.setdefault(item.identity, []).append(item)
        self.published += records
        self.log_lines += log_lines

    def take(self, peer: str, kind: type[Message]) -> list[Any]:
        """Messages of one kind that a peer was sent; they are taken away."""
        inbox = self.sent.get(peer.encode(), [])
        found = [item.message for item in inbox if isinstance(item.message, kind)]
        self.sent[peer.encode()] = [item for item in inbox if not isinstance(item.message, kind)]
        return found

    def join(self, role: str, name: str, **changes: Any) -> None:
        self.joined.append(name)
        self.give(name, make_hello(role, name, **changes))

    def join_all(self, *sources: SourceInfo, detect_credits: int = 2) -> None:
        """One of each role, and a capture for each source, named as its source."""
        self.join("display", "display", credits=8)
        self.join("detect", "detect", credits=detect_credits)
        self.join("classify", "classify", credits=1)
        for source in sources or (make_source(),):
            self.join("capture", source.name, source=source)
