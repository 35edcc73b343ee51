"""A run besieged: honest stages as in test_balance, and among them peers that send whatever they like.

What they send is chosen by hypothesis in the tests and by a coverage-guided fuzzer in `tools.fuzz`. They do
not know the instance ids of the honest ones, which are secret, and can't take their connections.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

from pipeline.config.schema import BrokerSettings
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import (
    MAX_PEERS,
    MAX_REASONS,
    MAX_WINDOW,
    PROTOCOL,
    Accept,
    Commit,
    Committed,
    Died,
    Frame,
    Goodbye,
    Grant,
    Heartbeat,
    Hello,
    Message,
    MessageError,
    SourceEnded,
    StepFailed,
    StopRequest,
    Work,
)
from stages.faces import Face
from tests.support.broker_world import World, classified, detected, make_broker, make_source
from tests.support.honest_run import Run

T = TypeVar("T")

ENEMIES: Final = 3
SOURCES: Final = ("clip", "cam", "evil")
SIDES: Final = (1, 2, 4, 40)
NUMBERS: Final = (0, 1, 2, 3, 5, 12, 64, 10**6, 2**31, 2**40, 2**53, 2**53 + 1, 2**63 - 1)
PLACES: Final = (0.0, 1.5, -3.0, 1e5, 1e300, float("nan"), float("inf"))
REASONS: Final = ("superseded", "stale", "x", "y" * 64, "z" * 65, "\x1b[2J\n")
LARGEST: Final = 40 * 40 * 3  # bytes of a frame
MAX_BYTES: Final = 2 * LARGEST


class Choices(Protocol):
    """Where what happens next comes from."""

    def number(self, least: int, most: int) -> int: ...

    def data(self, length: int) -> bytes: ...


# What each role sends, by the cases of `Siege.invent`; a peer that is not known yet says hello.
USUAL: Final = {
    "": (0,),
    "capture": (1, 1, 1, 2, 3),
    "detect": (4, 4, 6),
    "classify": (5, 5, 6),
    "display": (7, 7, 7, 7, 10),
    "supervisor": (3, 8, 9),
}


class Siege(Run):
    """`check` holds after each `attack`; after `lift` the honest ones come to their end as if alone."""

    FINGERPRINT = "the model"
    HOSTILE = True

    def __init__(self) -> None:
        self.incarnations = [0] * ENEMIES
        super().__init__()

    def make_world(self) -> World:
        settings = BrokerSettings(max_bytes=MAX_BYTES)
        return World(make_broker(sources=["clip", "cam"], settings=settings))

    def enemy(self, number: int) -> str:
        return f"evil-{number}.{self.incarnations[number]}"

    def attack(self, choices: Choices) -> None:
        """One message of one enemy, or its vanishing."""
        number = choices.number(0, ENEMIES - 1)
        enemy = self.enemy(number)
        if choices.number(0, 31) == 0:
            self.vanish(number)
            return
        message, buffers = self.invent(choices, enemy)
        parts = encode(message, buffers)
        if choices.number(0, 15) == 0:
            parts = damaged(choices, parts)
        try:
            received = decode(parts)
        except MessageError as error:
            self.world.broker.receive(enemy.encode(), error, (), self.world.now_ns)
            self.world.drain()
        else:
            self.world.give(enemy, *received)
        self.world.sent.pop(enemy.encode(), None)
        self.listen()

    def vanish(self, number: int) -> None:
        self.world.broker.unreachable(self.enemy(number).encode(), self.world.now_ns)
        self.world.drain()
        self.incarnations[number] += 1

    def check(self) -> None:
        """Nothing has grown past its bound, and the honest ones' books balance."""
        state = self.world.broker.state
        assert len(state.peers) <= MAX_PEERS
        assert set(state.ledgers) | set(state.known) <= {"clip", "cam"}
        assert len(state.fingerprints) <= 5
        box = state.outbox
        assert not (box.outgoing or box.log_lines or box.records), "drained"
        assert state.held_bytes <= MAX_BYTES + LARGEST + values_bytes(state)
        for ledger in state.ledgers.values():
            assert list(ledger.pending) == list(range(ledger.committed.offset, ledger.next_sequence))
            assert len(ledger.pending) <= MAX_WINDOW
            assert len(ledger.committed.dropped) <= MAX_REASONS
            assert ledger.held_bytes == sum(frame.held_bytes for frame in ledger.pending.values())
        self.the_books_balance()

    def lift(self) -> None:
        """The enemies vanish, and with them what they had been given."""
        for number in range(ENEMIES):
            self.vanish(number)
        self.listen()

    def invent(self, choices: Choices, enemy: str) -> tuple[Message, Sequence[bytes]]:
        """A message and buffers that mostly fit it, from an enemy that sees more of the run than it could."""
        state = self.world.broker.state
        peer, ledger = state.peers.get(enemy.encode()), pick(choices, [None, *state.ledgers.values()])
        own = peer.hello.source.name if peer is not None and peer.hello.source is not None else "clip"
        source = own if choices.number(0, 3) else pick(choices, SOURCES)
        ledger = state.ledgers.get(source, ledger)
        epoch, sequence = (ledger.epoch, ledger.next_sequence) if ledger is not None else (1, 0)
        if choices.number(0, 7) == 0:
            epoch, sequence = any_number(choices), any_number(choices)
        work = pick(choices, [*(peer.jobs if peer is not None else ()), any_number(choices)])
        broker = "broker-a" if choices.number(0, 7) else "broker-b"
        captured = any_number(choices), pick(choices, PLACES) if choices.number(0, 7) == 0 else 0.5
        faces, shape = choices.number(0, 3), (pick(choices, SIDES), pick(choices, SIDES), 3)
        usual = USUAL[peer.hello.role if peer is not None else ""]
        match pick(choices, usual) if choices.number(0, 3) else choices.number(0, 11):
            case 0:
                return invent_hello(choices, enemy), []
            case 1:
                header = Frame(source, epoch, sequence, *captured, shape)  # type: ignore[arg-type]
                return header, [bytes(shape[0] * shape[1] * 3)]
            case 2:
                status, reason = pick(choices, ("dropped", "failed")), pick(choices, REASONS)
                return Frame(source, epoch, sequence, *captured, None, status=status, reason=reason), []  # type: ignore[arg-type]
            case 3:
                return SourceEnded(source, epoch, any_number(choices), pick(choices, REASONS)), []
            case 4:
                found = [invent_face(choices) for _ in range(faces)]
                return detected(Work(broker, work), found, any_number(choices))
            case 5:
                job = peer.jobs.get(work) if peer else None
                items = sum(piece.count for piece in job.pieces) if job else 1
                items = items if items and choices.number(0, 7) else faces + 1
                answer, (rows,) = classified(Work(broker, work, items), None, any_number(choices))
                return answer, [choices.data(len(rows)) if choices.number(0, 7) == 0 else bytes(rows)]
            case 6:
                return StepFailed(broker, work, pick(choices, REASONS)), []
            case 7:
                written = Committed(sequence) if choices.number(0, 3) else invent_committed(choices)
                times = [any_number(choices)] * faces
                return Commit(source, written, times, any_number(choices)), [b"{}"] * faces
            case 8:
                return StopRequest("evil"), []
            case 9:
                return Died(pick(choices, (f"evil/{enemy}", "evil", "run", "run/"))), []
            case 10:
                return pick(choices, (Goodbye(), Heartbeat(), Heartbeat(any_number(choices)))), []
            case _:
                others = Accept("b"), Grant(source, 5, Committed()), Work("b", 1, 0, (1, 1, 3))
                return pick(choices, others), []


class Usurped(Siege):
    """No honest display and no honest capture is there: the enemies can take their places."""

    ROLES = ("detect", "classify")

    def the_books_balance(self) -> None:
        """What display writes and capture brings is the enemies' own; the accounts add up all the same."""
        for ledger in self.world.broker.state.ledgers.values():
            committed = ledger.committed
            assert committed.offset == committed.ok + committed.failed + sum(committed.dropped.values())

    def teardown(self) -> None:
        self.world.pass_time(10_000)


def besiege(choices: Choices, turns: int) -> None:
    """Turns of honest stages and of their enemies, in any order; at the end the honest ones are served."""
    run = (Siege, Usurped)[choices.number(0, 1)]()
    for _ in range(turns):
        if choices.number(0, 2):
            run.attack(choices)
        else:
            honest(run, choices)
        run.check()
    run.lift()
    run.teardown()


def honest(run: Siege, choices: Choices) -> None:
    """One turn of an honest stage that is there, or its death."""
    role = pick(choices, run.ROLES)
    if choices.number(0, 15) == 0:
        run.display_dies(choices.number(0, 3)) if role == "display" else run.die(role)
    elif choices.number(0, 15) == 0:
        run.time_passes(pick(choices, (60.0, 700.0)))
    elif role == "clip":
        run.capture_file(choices.number(0, 9) == 0)
    elif role == "cam":
        run.capture_live()
    elif role == "detect":
        run.detect(choices.number(0, 3), choices.number(0, 9))
    elif role == "classify":
        run.classify()
    else:
        run.write(choices.number(1, 4))


def pick(choices: Choices, values: Sequence[T]) -> T:
    return values[choices.number(0, len(values) - 1)]


def any_number(choices: Choices) -> int:
    return pick(choices, (*NUMBERS, choices.number(0, 20)))


def damaged(choices: Choices, parts: Sequence[Any]) -> list[bytes]:
    """The parts with a byte of the header changed, or some of them left out, doubled or cut."""
    copies = [bytes(part) for part in parts]
    match choices.number(0, 3):
        case 0:
            at = choices.number(0, len(copies[0]) - 1)
            copies[0] = copies[0][:at] + choices.data(1) + copies[0][at + 1 :]
        case 1:
            copies.pop()
        case 2:
            copies.append(copies[-1])
        case _:
            copies[-1] = copies[-1][: choices.number(0, len(copies[-1]))]
    return copies


def invent_hello(choices: Choices, enemy: str) -> Hello:
    role = pick(choices, ("capture", "detect", "detect", "classify", "display", "supervisor"))
    kind = pick(choices, ("file", "live"))
    info = make_source(pick(choices, SOURCES), kind, width=pick(choices, (1, 4, 16_384)))
    return Hello(
        role,  # type: ignore[arg-type]
        pick(choices, (enemy, "detect-1", "\x1b[31m")),
        f"evil/{enemy}" if choices.number(0, 3) else pick(choices, ("evil/shared", "evil", "r")),
        1,
        PROTOCOL if choices.number(0, 15) else 1,
        credits=pick(choices, (1, 2, 64, 0)),
        fingerprint=pick(choices, ("the model", "the model", "another", "")),
        source=info if choices.number(0, 7) else None,
        wants_pixels=bool(choices.number(0, 1)),
        committed={name: invent_committed(choices) for name in SOURCES[: choices.number(0, 3)]},
    )


def invent_committed(choices: Choices) -> Committed:
    written = any_number(choices)
    match choices.number(0, 2):
        case 0:
            return Committed(written, ok=written)
        case 1:
            return Committed(written, dropped={pick(choices, REASONS): written})
        case _:
            return Committed(written, pick(choices, NUMBERS), pick(choices, NUMBERS))


def invent_face(choices: Choices) -> Face:
    place = (*PLACES, 1.0, 2.0, 3.0)
    box = pick(choices, place), pick(choices, place), pick(choices, place), pick(choices, place)
    return Face(
        box if choices.number(0, 1) else (1.0, 2.0, 3.0, 4.0), pick(choices, (0.5, 1.0, float("nan")))
    )


def values_bytes(state: Any) -> int:
    pending = [frame for ledger in state.ledgers.values() for frame in ledger.pending.values()]
    return sum(array.nbytes for frame in pending for array in frame.values.values())
