"""What peers may not do, and what becomes of it: the decisions of docs/peers.md, one by one."""

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.broker.offenders import LIMIT, NOTES, Offenders
from pipeline.config.schema import BrokerSettings
from pipeline.wire.limits import MAX_PEERS, MAX_REASONS, MAX_SOURCES, MAX_WINDOW
from pipeline.wire.messages import (
    Buffer,
    Classified,
    ClassifyWork,
    Delivery,
    Detected,
    DetectWork,
    Died,
    Grant,
    Heartbeat,
    Introduce,
    Message,
    Progress,
    Refused,
    SourceEnded,
    StatusReport,
    StepFailed,
    StopRequest,
    Welcome,
    Written,
    decode,
    encode,
)
from tests.support.broker_steps import classify_all, detect_all, report, send_frames, write_all
from tests.support.broker_world import (
    World,
    crops,
    make_broker,
    make_faces,
    make_frame,
    make_hello,
    make_no_frame,
    make_source,
    pixels,
    probabilities,
)

FAR = 2**40


def offences(world: World) -> int:
    return world.broker.state.metrics.bad_messages


def full_world(**changes: Any) -> World:
    world = World(make_broker(**changes))
    world.join("supervisor", "supervisor")
    world.join_all()
    return world


# ------------------------------------------------------------------------------------------- offenders


def test_an_offender_is_ignored_past_the_limit_and_its_parent_hears_of_it() -> None:
    world = full_world()
    send_frames(world, 0)
    for _ in range(LIMIT):
        world.give("detect", SourceEnded("clip", 1, 0))
    assert world.broker.ignores(b"detect")
    assert [n for n in world.log_lines if "ignored" in n] == [
        "detect has sent too much of that and is ignored"
    ]
    world.join("detect", "detect", credits=2)
    assert world.take("detect", Welcome)[1:] == [], "it may not even say hello"
    world.pass_time(300)
    (gone,) = [p for p in world.take("supervisor", StatusReport)[-1].peers if p.given_up]
    assert gone.slot == "run/detect"
    world.join("detect", "next", credits=2, slot="run/detect")
    assert detect_all(world, faces=0, worker="next") == 1, "its work is free"


def test_each_offence_is_counted_and_the_first_is_said() -> None:
    world = full_world()
    for _ in range(3):
        world.broker.bad_message(b"stranger", "what it is", world.now_ns)
        world.drain()
    assert offences(world) == 3
    assert world.log_lines == ["b'stranger': a message is dropped: what it is"]


def test_the_count_of_connections_and_of_lines_in_the_log_is_bounded() -> None:
    world = full_world()
    for number in range(5000):
        world.broker.bad_message(b"%d" % number, "nonsense", world.now_ns)
        world.give(f"unknown-{number}", Heartbeat())
    assert len(world.broker.state.offenders) <= 1024
    assert len(world.broker._asked_ns) <= 1024
    assert len(world.log_lines) == NOTES
    world.now_ns += 11_000_000_000
    world.broker.bad_message(b"later", "nonsense", world.now_ns)
    world.drain()
    assert world.log_lines[NOTES] == f"{5000 - NOTES} more lines like these were left out"


def test_an_offender_that_is_forgotten_starts_anew() -> None:
    offenders = Offenders()
    for _ in range(LIMIT):
        offenders.count(b"first")
    assert b"first" in offenders
    for number in range(1024):
        offenders.count(b"%d" % number)
    assert b"first" not in offenders


def test_one_whose_message_can_t_be_read_is_asked_who_it_is() -> None:
    """A frame that was lost in it would else be missed for ever."""
    world = full_world()
    world.take("clip", Welcome)
    world.broker.bad_message(b"clip", "cut short", world.now_ns)
    world.drain()
    assert len(world.take("clip", Introduce)) == 1
    world.join("capture", "clip", source=make_source())
    assert [(w.epoch, w.next_sequence) for w in world.take("clip", Welcome)] == [(2, 0)]


# -------------------------------------------------------------------------------------- who may take part


@pytest.mark.parametrize("role", ["detect", "classify", "display"])
def test_a_stage_without_credits_is_refused(role: str) -> None:
    world = World()
    world.join(role, "idle", credits=0)
    assert len(world.take("idle", Refused)) == 1
    assert world.take("idle", Welcome) == []


def test_a_source_that_is_not_this_run_s_is_refused() -> None:
    world = World(make_broker(sources=["clip"]))
    world.join_all()
    world.join("capture", "other", source=make_source("other"))
    assert len(world.take("other", Refused)) == 1
    assert set(world.broker.state.ledgers) == {"clip"}


def test_sources_that_nobody_announced_are_bounded() -> None:
    world = World()
    known = {f"known-{number}": Progress(1, ok=1) for number in range(MAX_SOURCES)}
    world.join("display", "display", credits=8, progress=known)
    for number in range(2 * MAX_SOURCES):
        world.join("capture", f"c{number}", source=make_source(f"known-{number}"))
    state = world.broker.state
    assert len({*state.ledgers, *state.known}) == MAX_SOURCES
    assert len(world.take(f"c{MAX_SOURCES}", Refused)) == 1


def test_what_displays_know_of_sources_is_bounded() -> None:
    world = World()
    for number in range(5):
        known = {f"{number}-{source}": Progress(1, ok=1) for source in range(MAX_SOURCES)}
        world.join("display", "display", credits=8, progress=known)
    assert len(world.broker.state.known) == MAX_SOURCES


def test_peers_are_bounded_and_one_that_is_restarted_finds_its_place() -> None:
    world = World()
    for number in range(MAX_PEERS + 5):
        world.join("detect", f"d{number}", credits=1)
    assert len(world.broker.state.peers) == MAX_PEERS
    assert len(world.take(f"d{MAX_PEERS}", Refused)) == 1
    world.join("detect", "again", credits=1, slot="run/d0")
    assert world.take("again", Refused) == []


def test_a_source_keeps_its_kind() -> None:
    world = full_world()
    world.broker.unreachable(b"clip", world.now_ns)
    world.join("capture", "thief", source=make_source("clip", "live"))
    assert len(world.take("thief", Refused)) == 1


def test_hello_said_again_and_again_is_an_offence() -> None:
    world = full_world()
    send_frames(world, 0)
    for _ in range(LIMIT + 5):
        world.join("detect", "detect", credits=2)
    assert world.broker.ignores(b"detect")
    world.join("detect", "honest", credits=2)
    detect_all(world, faces=0, worker="honest")
    assert [d.status for d in write_all(world)] == ["ok"]


def test_two_peers_of_one_name_are_two() -> None:
    world = full_world()
    world.give("twin", make_hello("detect", "detect", credits=1, slot="run/twin"))
    send_frames(world, 0, 1, 2)
    assert detect_all(world, faces=0) + detect_all(world, faces=0, worker="twin") == 3


# --------------------------------------------------------------------------------------------- parents


def test_a_parent_speaks_for_its_own_processes_only() -> None:
    world = full_world()
    world.join("supervisor", "elsewhere", slot="elsewhere")
    world.join("detect", "far", credits=1, slot="elsewhere/far")
    for claim in (Died("run/detect"), SourceEnded("clip", 0, 0, "lost"), StopRequest("SIGINT")):
        world.give("elsewhere", claim)
    state = world.broker.state
    assert offences(world) == 3
    assert state.peers.get(b"detect") and not state.stopping and not state.ledgers["clip"].ended
    world.give("elsewhere", Died("elsewhere/far"))
    assert state.peers.get(b"far") is None


def test_a_parent_on_another_machine_ends_the_source_of_its_capture() -> None:
    world = World()
    world.join("supervisor", "elsewhere", slot="elsewhere")
    world.join("display", "display", credits=8)
    world.join("capture", "clip", source=make_source(), slot="elsewhere/capture")
    world.give("elsewhere", SourceEnded("clip", 0, 0, "its capture died 5 times"))
    assert world.broker.state.ledgers["clip"].ended


def test_slots_are_told_to_their_own_parent_only() -> None:
    world = full_world()
    world.join("supervisor", "elsewhere", slot="elsewhere")
    world.pass_time(300)
    (own,), (other,) = (world.take(parent, StatusReport)[-1:] for parent in ("supervisor", "elsewhere"))
    assert {peer.slot for peer in own.peers} == {"run/display", "run/detect", "run/classify", "run/clip"}
    assert {peer.slot for peer in other.peers} == {"display", "detect", "classify", "clip"}


# ---------------------------------------------------------------------------------------------- frames


def test_frames_without_credits_are_bounded_in_number() -> None:
    world = World()  # no display yet: nothing is granted
    world.join("display", "display", credits=1)
    world.join("capture", "clip", source=make_source())
    send_frames(world, *range(50))
    assert len(world.broker.state.ledgers["clip"].entries) == 4, "the window of a file"
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
    (welcome,) = world.take("clip", Welcome)
    credits = sum(grant.credits for grant in world.take("clip", Grant))
    epoch, following, written = welcome.epoch, 0, []
    for _ in range(40):
        while credits and following < 12:
            shape = (100, 100, 3) if following else (2, 4, 3)
            frame = make_frame(following, epoch=epoch, shape=shape)
            world.give("clip", frame, [pixels(frame)])
            following, credits = following + 1, credits - 1
        assert world.broker.state.held_bytes <= 2 * size
        detect_all(world, faces=0)
        written += [d.sequence for d in write_all(world)]
        for welcome in world.take("clip", Welcome):
            epoch, following, credits = welcome.epoch, welcome.next_sequence, 0
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
    world.take("cam", Welcome)
    for sequence in range(MAX_WINDOW + 500):
        world.give("cam", make_no_frame(sequence, "cam"))
    ledger = world.broker.state.ledgers["cam"]
    assert len(ledger.entries) == MAX_WINDOW
    assert world.take("cam", Welcome) == []
    write_all(world)
    (welcome,) = world.take("cam", Welcome)
    assert (welcome.epoch, welcome.next_sequence) == (2, MAX_WINDOW)


def test_reasons_are_counted_one_by_one_only_so_far() -> None:
    world = World()
    world.join_all(make_source("cam", "live"))
    for sequence in range(100):
        world.give("cam", make_no_frame(sequence, "cam", reason=f"{sequence} " * 80))
        world.give("cam", make_no_frame(sequence, "cam", reason=f"reason {sequence}"))
    write_all(world)
    progress = world.broker.state.ledgers["cam"].progress
    assert len(progress.dropped) <= MAX_REASONS
    assert sum(progress.dropped.values()) == progress.written == 100
    decode(encode(Grant("cam", 0, progress)))


def test_a_frame_of_another_source_is_an_offence() -> None:
    world = World()
    world.join_all(make_source("a"), make_source("b"))
    frame = make_frame(0, "b")
    world.give("a", frame, [pixels(frame)])
    assert offences(world) == 1
    assert world.broker.state.ledgers["b"].captured == 0


# --------------------------------------------------------------------------------------------- answers


def test_an_answer_given_twice_and_one_to_another_s_work_do_nothing() -> None:
    world = full_world()
    world.join("detect", "other", credits=1)
    send_frames(world, 0)
    owner = "detect" if world.broker.state.peers.get(b"detect").jobs else "other"  # type: ignore[union-attr]
    (work,) = world.take(owner, DetectWork)
    stranger = {"detect": "other", "other": "detect"}[owner]
    answer = Detected(work.broker, work.work, make_faces(1), 5)
    world.give(stranger, answer, [crops(1)])
    assert world.take("classify", ClassifyWork) == []
    for _ in range(3):
        world.give(owner, answer, [crops(1)])
    assert classify_all(world) == [1]
    assert [len(d.faces) for d in write_all(world)] == [1]


def test_probabilities_for_another_number_of_crops_fail_their_frames_alone() -> None:
    world = full_world()
    send_frames(world, 0)
    detect_all(world, faces=2)
    (work,) = world.take("classify", ClassifyWork)
    world.give("classify", Classified(work.broker, work.work, 3, 5), [probabilities(3)])
    assert offences(world) == 1
    assert [(d.status, d.reason) for d in write_all(world)] == [("failed", "classify_answer_wrong")]


def test_work_that_is_not_given_back_is_taken_away_though_its_worker_beats() -> None:
    world = full_world()
    send_frames(world, 0)
    assert world.take("detect", DetectWork)
    world.wait(60)
    assert world.broker.state.peers.get(b"detect")
    world.wait(2)
    assert any("detect has not answered for 6" in note for note in world.log_lines)
    world.join("detect", "next", credits=2)
    assert detect_all(world, faces=0, worker="next") == 1


def test_a_worker_that_gives_back_only_its_later_work_is_overdue_too() -> None:
    world = full_world()
    send_frames(world, 0, 1)
    _held, second = world.take("detect", DetectWork)
    world.give("detect", Detected(second.broker, second.work, [], 5), [b""])
    for sequence in (2, 3):
        send_frames(world, sequence)
        world.wait(30)
        for item in world.take("detect", DetectWork):
            world.give("detect", Detected(item.broker, item.work, [], 5), [b""])
    world.wait(2)
    assert any("detect has not answered" in note for note in world.log_lines)


def test_a_worker_behind_with_many_slow_steps_is_not_overdue() -> None:
    world = World(make_broker(file_window=16))
    world.join_all(detect_credits=8)
    send_frames(world, *range(8))
    written = []
    for item in world.take("detect", DetectWork):
        world.wait(20)
        world.give("detect", Detected(item.broker, item.work, [], 20_000_000_000), [b""])
        written += write_all(world)
    assert [d.status for d in written] == ["ok"] * 8


def test_a_display_that_never_writes_is_overdue() -> None:
    world = full_world()
    send_frames(world, 0)
    detect_all(world, faces=0)
    world.wait(62)
    assert any("display has not answered" in note for note in world.log_lines)


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
    (work,) = world.take("detect", DetectWork)
    world.now_ns += 1_000_000
    world.give("detect", Detected(work.broker, work.work, [], 10**13), [b""])
    assert world.broker.state.metrics.busy_ns["detect"] == 1_000_000


def test_a_reason_of_a_failed_step_is_taken_as_it_is() -> None:
    world = full_world()
    send_frames(world, 0)
    (work,) = world.take("detect", DetectWork)
    world.give("detect", StepFailed(work.broker, work.work, "x" * 1024))
    assert [d.reason for d in write_all(world)] == ["x" * 1024]


# ----------------------------------------------------------------------------------- what is written


def give_written(world: World, up_to: int, records: Sequence[Buffer] = (b"{}",)) -> None:
    message = Written("clip", Progress(up_to), [5] * len(records), 5)
    world.give("display", message, records)


def test_more_than_was_delivered_can_t_be_written() -> None:
    world = full_world()
    send_frames(world, 0, 1)
    detect_all(world, faces=0)
    give_written(world, FAR, [b"{}"] * 5)
    ledger = world.broker.state.ledgers["clip"]
    assert (ledger.progress.written, ledger.captured) == (2, 2)
    assert len(world.published) == 2, "records of frames that there are"
    give_written(world, 0)
    assert len(world.published) == 2


def test_writing_a_source_that_nobody_has_is_an_offence() -> None:
    world = full_world()
    world.give("display", Written("nobody's", Progress(5), [], 5), [])
    assert offences(world) == 1


@pytest.mark.parametrize(
    "claim",
    [Progress(FAR, ok=FAR), Progress(2, ok=5), Progress(2, dropped={f"r{n}": 0 for n in range(16)}, ok=2)],
    ids=["far", "does not add up", "too many reasons"],
)
def test_a_display_can_t_claim_what_it_was_not_delivered(claim: Progress) -> None:
    world = full_world()
    send_frames(world, 0, 1)
    detect_all(world, faces=0)
    world.take("display", Delivery)
    world.broker.unreachable(b"display", world.now_ns)
    world.join("display", "next", credits=8, progress={"clip": claim})
    assert [d.sequence for d in write_all(world, "next")] == [0, 1]


def test_a_capture_can_t_claim_it_either() -> None:
    world = full_world()
    send_frames(world, 0, 1)
    world.broker.unreachable(b"clip", world.now_ns)
    world.join("capture", "next", source=make_source(), progress={"clip": Progress(FAR, ok=FAR)})
    (welcome,) = world.take("next", Welcome)
    assert welcome.next_sequence == 2


def test_a_new_display_may_claim_what_an_earlier_one_wrote_unheard() -> None:
    world = full_world()
    send_frames(world, 0, 1, 2)
    detect_all(world, faces=0)
    assert len(world.take("display", Delivery)) == 3
    world.broker.unreachable(b"display", world.now_ns)
    world.join("display", "next", credits=8, progress={"clip": Progress(2, ok=2)})
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
        ("detect", Classified("broker-a", 1, 1, 5), [probabilities(1)]),
        ("classify", Detected("broker-a", 1, [], 5), [b""]),
        ("clip", Written("clip", Progress(5), [], 5), []),
        ("detect", Grant("clip", 5, Progress()), []),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_role_does_not_send_changes_nothing(
    sender: str, message: Message, buffers: list[bytes]
) -> None:
    world = full_world()
    send_frames(world, 0)
    before = len(world.broker.state.peers)
    world.give(sender, message, buffers)
    assert offences(world) == 1
    assert len(world.broker.state.peers) == before
    assert not world.broker.state.stopping and not world.broker.state.ledgers["clip"].ended
    detect_all(world, faces=0)
    assert [d.status for d in write_all(world)] == ["ok"]


def test_a_hello_after_a_broken_connection_is_no_offence_and_a_flood_of_them_is() -> None:
    world = World()
    world.join_all()
    world.wait(1)
    world.join("detect", "detect", credits=2)
    assert offences(world) == 0
    world.join("detect", "detect", credits=2)
    assert offences(world) == 1
