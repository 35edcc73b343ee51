"""What peers may not do, and what becomes of it: the decisions of docs/peers.md, one by one."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import BrokerSettings
from pipeline.wire.codec import decode, encode, pack
from pipeline.wire.messages import (
    MAX_PEERS,
    MAX_REASONS,
    MAX_SOURCES,
    MAX_WINDOW,
    Accept,
    Buffer,
    Commit,
    Committed,
    Delivery,
    Died,
    Grant,
    Heartbeat,
    Hello,
    Message,
    MessageError,
    Refused,
    RequestHello,
    Result,
    SourceEnded,
    StatusReport,
    StepFailed,
    StopRequest,
    Work,
)
from stages.worker import Arrays
from tests.support.broker_steps import classify_all, detect_all, report, send_frames, write_all
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
    probabilities,
)

FAR = 2**40


def bad_messages(world: World) -> int:
    return world.broker.state.metrics.bad_messages


def hello_of(world: World, name: str) -> Hello:
    changes = {"source": make_source()} if name == "clip" else {"credits": 8}
    return make_hello("capture" if name == "clip" else name, name, **changes)


def full_world(**changes: Any) -> World:
    world = World(make_broker(**changes))
    world.join("supervisor", "supervisor")
    world.join_all()
    return world


# -------------------------------------------------------------------------------------- protocol errors


def test_work_of_a_peer_that_breaks_the_protocol_goes_to_others_until_it_says_hello_again() -> None:
    world = full_world()
    send_frames(world, 0)
    world.give("detect", SourceEnded("clip", 1, 0))
    assert world.broker.state.peers.get(b"detect") is None
    assert len(world.take("detect", RequestHello)) == 1
    assert "detect: a SourceEnded that it may not send; it must say hello again" in world.log_lines
    world.join("detect", "next", credits=2)
    assert detect_all(world, faces=0, worker="next") == 1
    world.join("detect", "detect", credits=2)
    send_frames(world, 1, 2)
    assert detect_all(world, faces=0) >= 1


def test_each_protocol_error_is_counted_and_the_first_is_in_the_log() -> None:
    world = full_world()
    for _ in range(3):
        world.broker.receive(b"stranger", MessageError("what it is"), (), world.now_ns)
        world.drain()
    assert bad_messages(world) == 3
    assert world.log_lines == ["stranger: a message is dropped: what it is; it must say hello again"]


def test_unknown_peers_are_remembered_up_to_a_bound() -> None:
    world = full_world()
    for number in range(5000):
        world.give(f"unknown-{number}", Heartbeat())
    assert len(world.broker.state.peers._requested_ns) <= 1024


def test_one_whose_message_can_t_be_read_is_asked_who_it_is() -> None:
    """A frame that was lost in it would else be missed for ever."""
    world = full_world()
    world.take("clip", Accept)
    world.broker.receive(b"clip", MessageError("cut short"), (), world.now_ns)
    world.drain()
    assert len(world.take("clip", RequestHello)) == 1
    world.join("capture", "clip", source=make_source())
    assert [(w.epoch, w.next_sequence) for w in world.take("clip", Accept)] == [(2, 0)]


# -------------------------------------------------------------------------------------- who may take part


@pytest.mark.parametrize("role", ["detect", "classify", "display"])
def test_a_stage_without_credits_is_refused(role: str) -> None:
    world = World()
    world.join(role, "idle", credits=0)
    assert len(world.take("idle", Refused)) == 1
    assert world.take("idle", Accept) == []


def test_a_source_that_is_not_this_run_s_is_refused() -> None:
    world = World(make_broker(sources=["clip"]))
    world.join_all()
    world.join("capture", "other", source=make_source("other"))
    assert len(world.take("other", Refused)) == 1
    assert set(world.broker.state.ledgers) == {"clip"}


def test_sources_that_nobody_announced_are_bounded() -> None:
    world = World()
    known = {f"known-{number}": Committed(1, ok=1) for number in range(MAX_SOURCES)}
    world.join("display", "display", credits=8, committed=known)
    for number in range(2 * MAX_SOURCES):
        world.join("capture", f"c{number}", source=make_source(f"known-{number}"))
    state = world.broker.state
    assert len({*state.ledgers, *state.known}) == MAX_SOURCES
    assert len(world.take(f"c{MAX_SOURCES}", Refused)) == 1


def test_what_displays_know_of_sources_is_bounded() -> None:
    world = World()
    for number in range(5):
        known = {f"{number}-{source}": Committed(1, ok=1) for source in range(MAX_SOURCES)}
        world.join("display", "display", credits=8, committed=known)
    assert len(world.broker.state.known) == MAX_SOURCES


def test_peers_are_bounded_and_one_that_is_restarted_finds_its_place() -> None:
    world = World()
    for number in range(MAX_PEERS + 5):
        world.join("detect", f"d{number}", credits=1)
    assert len(world.broker.state.peers) == MAX_PEERS
    assert len(world.take(f"d{MAX_PEERS}", Refused)) == 1
    world.join("detect", "again", credits=1, instance="run/d0")
    assert world.take("again", Refused) == []


def test_a_source_keeps_its_kind() -> None:
    world = full_world()
    world.broker.unreachable(b"clip", world.now_ns)
    world.join("capture", "thief", source=make_source("clip", "live"))
    assert len(world.take("thief", Refused)) == 1


def test_hello_said_again_and_again_loses_no_frame() -> None:
    world = full_world()
    send_frames(world, 0)
    for _ in range(200):
        world.join("detect", "detect", credits=2)
    world.join("detect", "honest", credits=2)
    detect_all(world, faces=0, worker="honest")
    detect_all(world, faces=0)
    assert [d.status for d in write_all(world)] == ["ok"]


def test_a_role_that_this_run_has_no_stage_for_is_refused() -> None:
    world = full_world()
    world.join("age", "age-1", credits=1)
    assert [refused.reason for refused in world.take("age-1", Refused)] == [
        "age-1: this run has no stage 'age'"
    ]


def test_two_peers_of_one_name_are_two() -> None:
    world = full_world()
    world.give("twin", make_hello("detect", "detect", credits=1, instance="run/twin"))
    send_frames(world, 0, 1, 2)
    assert detect_all(world, faces=0) + detect_all(world, faces=0, worker="twin") == 3


# --------------------------------------------------------------------------------------------- parents


def test_a_parent_speaks_for_its_own_processes_only() -> None:
    world = full_world()
    world.join("supervisor", "elsewhere", instance="elsewhere")
    world.join("detect", "far", credits=1, instance="elsewhere/far")
    for claim in (Died("run/detect"), SourceEnded("clip", 0, 0, "lost"), StopRequest("SIGINT")):
        world.give("elsewhere", claim)
        world.join("supervisor", "elsewhere", instance="elsewhere")
    state = world.broker.state
    assert bad_messages(world) == 3
    assert state.peers.get(b"detect") and not state.lifetime.stopping and not state.ledgers["clip"].ended
    world.give("elsewhere", Died("elsewhere/far"))
    assert state.peers.get(b"far") is None


def test_a_parent_on_another_machine_ends_the_source_of_its_capture() -> None:
    world = World()
    world.join("supervisor", "elsewhere", instance="elsewhere")
    world.join("display", "display", credits=8)
    world.join("capture", "clip", source=make_source(), instance="elsewhere/capture")
    world.give("elsewhere", SourceEnded("clip", 0, 0, "its capture died 5 times"))
    assert world.broker.state.ledgers["clip"].ended


def test_instance_ids_are_sent_to_their_own_supervisor_only() -> None:
    world = full_world()
    world.join("supervisor", "elsewhere", instance="elsewhere")
    world.pass_time(300)
    (own,), (other,) = (world.take(parent, StatusReport)[-1:] for parent in ("supervisor", "elsewhere"))
    assert {peer.instance for peer in own.peers} == {"run/display", "run/detect", "run/classify", "run/clip"}
    assert {peer.instance for peer in other.peers} == {"display", "detect", "classify", "clip"}


# ---------------------------------------------------------------------------------------------- frames


def test_frames_without_credits_are_bounded_in_number() -> None:
    world = World()  # no display yet: nothing is granted
    world.join("display", "display", credits=1)
    world.join("capture", "clip", source=make_source())
    send_frames(world, *range(50))
    assert len(world.broker.state.ledgers["clip"].pending) == 4, "the window of a file"
    assert report(world).held_bytes == 4 * 24


def test_frames_larger_than_was_said_are_bounded_in_bytes() -> None:
    frame = make_frame(0, shape=(100, 100, 3))
    size = len(pixels(frame))
    world = full_world(settings=BrokerSettings(max_bytes=3 * size), file_window=64)
    assert world.take("clip", Grant)[0].credits == 64, "for frames of 24 bytes"
    for sequence in range(64):
        frame = make_frame(sequence, shape=(100, 100, 3))
        world.give("clip", frame, [pixels(frame)])
    assert world.broker.state.held_bytes <= 3 * size


def test_what_a_file_could_not_get_rid_of_is_asked_for_again() -> None:
    """An honest one, of pictures that grow larger, loses none by it."""
    frame = make_frame(0, shape=(100, 100, 3))
    size = len(pixels(frame))
    world = full_world(settings=BrokerSettings(max_bytes=2 * size), file_window=8)
    (accept,) = world.take("clip", Accept)
    credits = sum(grant.credits for grant in world.take("clip", Grant))
    epoch, following, written = accept.epoch, 0, []
    for _ in range(40):
        while credits and following < 12:
            shape = (100, 100, 3) if following else (2, 4, 3)
            frame = make_frame(following, epoch=epoch, shape=shape)
            world.give("clip", frame, [pixels(frame)])
            following, credits = following + 1, credits - 1
        assert world.broker.state.held_bytes <= 2 * size
        detect_all(world, faces=0)
        written += [d.sequence for d in write_all(world)]
        for accept in world.take("clip", Accept):
            epoch, following, credits = accept.epoch, accept.next_sequence, 0
        credits += sum(grant.credits for grant in world.take("clip", Grant))
    assert written == list(range(12))


def test_a_live_frame_for_which_there_is_no_room_is_dropped_and_counted() -> None:
    size = 24
    world = World(make_broker(settings=BrokerSettings(max_bytes=2 * size)))
    world.join_all(make_source("cam", "live"), detect_credits=4)
    send_frames(world, 0, 1, 2, source="cam")
    assert world.broker.state.held_bytes <= 2 * size
    detect_all(world, faces=0)
    assert [(d.status, d.reason) for d in write_all(world)][-1] == ("dropped", "no_room")


def test_frames_that_bring_no_pixels_are_bounded_and_asked_for_again() -> None:
    world = World()
    world.join_all(make_source("cam", "live"))
    world.take("cam", Accept)
    for sequence in range(MAX_WINDOW + 500):
        world.give("cam", make_no_frame(sequence, "cam"))
    ledger = world.broker.state.ledgers["cam"]
    assert len(ledger.pending) == MAX_WINDOW
    assert world.take("cam", Accept) == []
    write_all(world)
    (accept,) = world.take("cam", Accept)
    assert (accept.epoch, accept.next_sequence) == (2, MAX_WINDOW)


def test_reasons_are_counted_one_by_one_only_so_far() -> None:
    world = World()
    world.join_all(make_source("cam", "live"))
    for sequence in range(100):
        world.give("cam", make_no_frame(sequence, "cam", reason=f"{sequence} " * 80))
        world.give("cam", make_no_frame(sequence, "cam", reason=f"reason {sequence}"))
    write_all(world)
    committed = world.broker.state.ledgers["cam"].committed
    assert len(committed.dropped) <= MAX_REASONS
    assert sum(committed.dropped.values()) == committed.offset == 100
    decode(encode(Grant("cam", 0, committed)))


def test_a_frame_of_another_source_is_a_protocol_error() -> None:
    world = World()
    world.join_all(make_source("a"), make_source("b"))
    frame = make_frame(0, "b")
    world.give("a", frame, [pixels(frame)])
    assert bad_messages(world) == 1
    assert world.broker.state.ledgers["b"].captured == 0


# --------------------------------------------------------------------------------------------- answers


def test_an_answer_given_twice_and_one_to_another_s_work_do_nothing() -> None:
    world = full_world()
    world.join("detect", "other", credits=1)
    send_frames(world, 0)
    owner = "detect" if world.broker.state.peers.get(b"detect").jobs else "other"  # type: ignore[union-attr]
    (work,) = world.take(owner, Work)
    stranger = {"detect": "other", "other": "detect"}[owner]
    world.give(stranger, *detected(work))
    assert world.take("classify", Work) == []
    for _ in range(3):
        world.give(owner, *detected(work))
    assert classify_all(world) == [1]
    assert [d.items for d in write_all(world)] == [1]


BOXES = np.array([[0.0, 0.0, 8.0, 8.0]])
SCORES = np.array([0.9])
CROPS = np.zeros((1, 48, 48), np.uint8)
ROWS = probabilities(1)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({}, "a result with nothing where"),
        ({"boxes": BOXES, "scores": SCORES}, "boxes float64[1, 4], scores float64[1] where"),
        ({"boxes": BOXES.astype("f4"), "scores": SCORES, "crops": CROPS}, "boxes float32[1, 4]"),
        ({"boxes": BOXES[:, :3], "scores": SCORES, "crops": CROPS}, "boxes float64[1, 3]"),
        ({"boxes": BOXES, "scores": np.array([0.9, 0.9]), "crops": CROPS}, "scores float64[2]"),
        *(
            (
                {"boxes": np.array([box]), "scores": SCORES, "crops": CROPS},
                "a result with boxes that are empty",
            )
            for box in (
                (math.nan, 0.0, 5.0, 5.0),
                (0.0, 0.0, math.inf, 5.0),
                (0.0, 0.0, -5.0, 5.0),
                (0.0, 0.0, 0.0, 5.0),
                (1e9, 0.0, 5.0, 5.0),
            )
        ),
        *(
            ({"boxes": BOXES, "scores": np.array([score]), "crops": CROPS}, "scores that are not from 0 to 1")
            for score in (math.nan, -0.1, 1.1)
        ),
    ],
)
def test_what_are_no_faces_is_refused_and_its_frame_given_to_another(arrays: Arrays, found: str) -> None:
    world = full_world()
    send_frames(world, 0)
    (work,) = world.take("detect", Work)
    described, buffers = pack(arrays)
    world.give("detect", Result(work.broker, work.work, 1, described, 5), buffers)
    assert any(found in line for line in world.log_lines), world.log_lines
    assert bad_messages(world) == 1
    world.join("detect", "detect", credits=2)
    assert detect_all(world, faces=0) == 1
    assert [d.status for d in write_all(world)] == ["ok"]


@pytest.mark.parametrize(
    "row",
    [
        [math.nan] * 7,
        [math.inf, *[0.0] * 6],
        [-0.5, 1.5, *[0.0] * 5],
        [2.0, *[0.0] * 6],
        [0.0] * 7,
        [0.9] * 7,
    ],
    ids=str,
)
def test_what_are_no_probabilities_is_refused(row: list[float]) -> None:
    world = full_world()
    send_frames(world, 0)
    detect_all(world, faces=2)
    (work,) = world.take("classify", Work)
    described, buffers = pack({"probabilities": np.vstack([probabilities(1), np.float32([row])])})
    world.give("classify", Result(work.broker, work.work, 2, described, 5), buffers)
    assert bad_messages(world) == 1
    world.join("classify", "classify", credits=1)
    assert classify_all(world) == [2]
    assert [d.status for d in write_all(world)] == ["ok"]


def test_a_worker_that_always_breaks_the_protocol_fails_its_frames_alone() -> None:
    world = full_world()
    send_frames(world, 0)
    detect_all(world, faces=2)
    for _ in range(5):
        for work in world.take("classify", Work):
            world.give("classify", *classified(work, 3))
            world.join("classify", "classify", credits=1)
    assert "classify: a result with 3 items where 2 were expected; it must say hello again" in world.log_lines
    assert [(d.status, d.reason) for d in write_all(world)] == [("failed", "worker_died")]


def test_work_that_is_not_given_back_is_taken_away_though_its_worker_beats() -> None:
    world = full_world()
    send_frames(world, 0)
    assert world.take("detect", Work)
    world.wait(60)
    assert world.broker.state.peers.get(b"detect")
    world.wait(2)
    assert any("detect timed out: no answer for 6" in line for line in world.log_lines)
    world.join("detect", "next", credits=2)
    assert detect_all(world, faces=0, worker="next") == 1


def test_a_worker_that_gives_back_only_its_later_work_is_overdue_too() -> None:
    world = full_world()
    send_frames(world, 0, 1)
    _held, second = world.take("detect", Work)
    world.give("detect", *detected(second, 0))
    for sequence in (2, 3):
        send_frames(world, sequence)
        world.wait(30)
        for item in world.take("detect", Work):
            world.give("detect", *detected(item, 0))
    world.wait(2)
    assert any("detect timed out: no answer" in line for line in world.log_lines)


def test_a_worker_behind_with_many_slow_steps_is_not_overdue() -> None:
    world = World(make_broker(file_window=16))
    world.join_all(detect_credits=8)
    send_frames(world, *range(8))
    written = []
    for item in world.take("detect", Work):
        world.wait(20)
        world.give("detect", *detected(item, 0, 20_000_000_000))
        written += write_all(world)
    assert [d.status for d in written] == ["ok"] * 8


def test_a_display_that_never_writes_is_overdue() -> None:
    world = full_world()
    send_frames(world, 0)
    detect_all(world, faces=0)
    world.wait(62)
    assert any("display timed out: no answer" in line for line in world.log_lines)


def test_the_broker_s_own_sleep_makes_nobody_overdue() -> None:
    world = full_world()
    send_frames(world, 0)
    world.now_ns += 100_000_000_000
    world.broker.slept(100_000_000_000)
    world.pass_time(100)
    assert world.log_lines == []


def test_a_step_is_not_taken_to_be_longer_than_it_can_have_been() -> None:
    """Else one worker could make the broker wait for hours for any of its role."""
    world = full_world()
    send_frames(world, 0)
    (work,) = world.take("detect", Work)
    world.now_ns += 1_000_000
    world.give("detect", *detected(work, 0, 10**13))
    assert world.broker.state.metrics.busy_ns["detect"] == 1_000_000


def test_a_reason_of_a_failed_step_is_taken_as_it_is() -> None:
    world = full_world()
    send_frames(world, 0)
    (work,) = world.take("detect", Work)
    world.give("detect", StepFailed(work.broker, work.work, "x" * 1024))
    assert [d.reason for d in write_all(world)] == ["x" * 1024]


# ----------------------------------------------------------------------------------- what is written


def give_commit(world: World, offset: int, records: Sequence[Buffer] = (b"{}",)) -> None:
    message = Commit("clip", Committed(offset), [5] * len(records), 5)
    world.give("display", message, records)


def test_more_than_was_delivered_can_t_be_written() -> None:
    world = full_world()
    send_frames(world, 0, 1)
    detect_all(world, faces=0)
    give_commit(world, FAR, [b"{}"] * 5)
    ledger = world.broker.state.ledgers["clip"]
    assert (ledger.committed.offset, ledger.captured) == (2, 2)
    assert len(world.published) == 2, "records of frames that there are"
    give_commit(world, 0)
    assert len(world.published) == 2


def test_writing_a_source_that_is_not_known_yet_does_nothing() -> None:
    """As after a new broker's start: display writes on, and the capture has not found it yet."""
    world = full_world()
    world.give("display", Commit("nobody's", Committed(5), [], 5), [])
    assert bad_messages(world) == 0
    assert set(world.broker.state.ledgers) == {"clip"}


@pytest.mark.parametrize(
    "claim",
    [Committed(FAR, ok=FAR), Committed(2, ok=5), Committed(2, dropped={f"r{n}": 0 for n in range(16)}, ok=2)],
    ids=["far", "does not add up", "too many reasons"],
)
def test_a_display_can_t_claim_what_it_was_not_delivered(claim: Committed) -> None:
    world = full_world()
    send_frames(world, 0, 1)
    detect_all(world, faces=0)
    world.take("display", Delivery)
    world.broker.unreachable(b"display", world.now_ns)
    world.join("display", "next", credits=8, committed={"clip": claim})
    assert [d.sequence for d in write_all(world, "next")] == [0, 1]


def test_a_capture_can_t_claim_it_either() -> None:
    world = full_world()
    send_frames(world, 0, 1)
    world.broker.unreachable(b"clip", world.now_ns)
    world.join("capture", "next", source=make_source(), committed={"clip": Committed(FAR, ok=FAR)})
    (accept,) = world.take("next", Accept)
    assert accept.next_sequence == 2


def test_a_new_display_may_claim_what_an_earlier_one_wrote_unheard() -> None:
    world = full_world()
    send_frames(world, 0, 1, 2)
    detect_all(world, faces=0)
    assert len(world.take("display", Delivery)) == 3
    world.broker.unreachable(b"display", world.now_ns)
    world.join("display", "next", credits=8, committed={"clip": Committed(2, ok=2)})
    assert [d.sequence for d in write_all(world, "next")] == [2]


# ------------------------------------------------------------------------------------------- the wrong role


@pytest.mark.parametrize(
    ("sender", "message", "buffers"),
    [
        ("clip", StopRequest("q"), []),
        ("detect", StopRequest("q"), []),
        ("detect", Died("run/classify"), []),
        ("display", Died("run/classify"), []),
        ("display", SourceEnded("clip", 1, 0), []),
        ("display", *detected(Work("broker-a", 1), 0)),
        ("clip", *classified(Work("broker-a", 1), 1)),
        ("clip", Commit("clip", Committed(5), [], 5), []),
        ("detect", Grant("clip", 5, Committed()), []),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_role_does_not_send_changes_nothing(
    sender: str, message: Message, buffers: list[bytes]
) -> None:
    world = full_world()
    send_frames(world, 0)
    world.give(sender, message, buffers)
    assert bad_messages(world) == 1
    assert len(world.take(sender, RequestHello)) == 1
    world.give(sender, hello_of(world, sender))
    assert not world.broker.state.lifetime.stopping and not world.broker.state.ledgers["clip"].ended
    detect_all(world, faces=0)
    assert [d.status for d in write_all(world)] == ["ok"]
