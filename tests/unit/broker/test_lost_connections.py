"""How frames travel to other machines, and what time it is there."""

from typing import Any

import pytest

from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import (
    Clock,
    Delivery,
    Grant,
    Heartbeat,
    Message,
    RequestHello,
    StatusReport,
    Work,
)
from tests.support.broker_steps import detect_all, write_all
from tests.support.broker_world import World, make_broker, make_frame, make_source

JPEG = b"\xff\xd8 not for the broker to look at \xff\xd9"


def peers(world: World, far: str = "", *, wants_pixels: bool = True) -> None:
    """One of each role; the one named is on another machine."""
    world.join("display", "display", credits=8, wants_pixels=wants_pixels, remote=far == "display")
    world.join("detect", "detect", credits=2, remote=far == "detect")
    world.join("classify", "classify", credits=1, remote=far == "classify")
    world.join("capture", "clip", source=make_source(), remote=far == "capture")


@pytest.mark.parametrize(
    ("far", "expected"),
    [("", "raw"), ("capture", "jpeg"), ("detect", "jpeg"), ("display", "jpeg"), ("classify", "raw")],
)
def test_frames_are_wanted_as_jpeg_where_they_go_to_another_machine(far: str, expected: str) -> None:
    world = World()
    peers(world, far)
    (grant,) = world.take("clip", Grant)
    assert grant.encoding == expected


def test_a_display_elsewhere_that_wants_no_pixels_changes_nothing() -> None:
    world = World()
    peers(world, "display", wants_pixels=False)
    assert world.take("clip", Grant)[0].encoding == "raw"


@pytest.mark.parametrize(("encoding", "far"), [("jpeg", ""), ("raw", "detect")])
def test_what_is_set_goes_before_the_links(encoding: str, far: str) -> None:
    world = World(make_broker(encoding=encoding))
    peers(world, far)
    assert world.take("clip", Grant)[0].encoding == encoding


def test_a_worker_elsewhere_that_joins_later_is_reckoned_with() -> None:
    world = World()
    world.join_all(make_source(), make_source("camera", "live"))
    for name, count in (("clip", 4), ("camera", 2)):
        assert world.take(name, Grant)[0].encoding == "raw"
        for sequence in range(count):
            frame = make_frame(sequence, name)
            world.give(name, frame, [bytes(24)])
    world.join("detect", "detect-2", credits=2, remote=True)
    detect_all(world, faces=0)
    detect_all(world, faces=0, worker="detect-2")
    write_all(world)
    for name in ("clip", "camera"):
        assert {grant.encoding for grant in world.take(name, Grant)[-2:]} == {"jpeg"}


def test_a_jpeg_goes_through_as_it_came_and_its_own_length_is_counted() -> None:
    world = World()
    peers(world, "capture")
    world.give("clip", make_frame(0, encoding="jpeg"), [JPEG])
    assert held(world) == len(JPEG)
    (item,) = [i for i in world.sent[b"detect"] if isinstance(i.message, Work)]
    assert passes(item.message, item.buffers).encoding == "jpeg"
    assert bytes(item.buffers[-1]) == JPEG
    detect_all(world, faces=0)
    (item,) = [i for i in world.sent[b"display"] if isinstance(i.message, Delivery)]
    assert passes(item.message, item.buffers).encoding == "jpeg"
    assert bytes(item.buffers[-1]) == JPEG
    write_all(world)
    assert held(world) == 0


def passes(message: Message, buffers: Any) -> Any:
    """The message as its peer reads it."""
    return decode([bytes(part) for part in encode(message, buffers)])[0]


def held(world: World) -> int:
    return sum(ledger.held_bytes for ledger in world.broker.state.ledgers.values())


def test_the_time_is_sent_on_request() -> None:
    world = World()
    world.join_all()
    world.give("detect", Heartbeat())
    assert world.take("detect", Clock) == []
    world.give("detect", Heartbeat(5, 7, 1))
    assert world.take("detect", Clock) == [Clock(5, world.now_ns)]


def test_a_stage_gets_the_time_before_its_hello() -> None:
    world = World()
    world.give("stranger", Heartbeat(5))
    world.give("stranger", Heartbeat(6))
    assert world.take("stranger", RequestHello) == [RequestHello()]
    assert world.take("stranger", Clock) == [Clock(5, world.now_ns), Clock(6, world.now_ns)]


def test_how_a_clock_stands_is_reported() -> None:
    world = World()
    peers(world, "capture")
    world.join("supervisor", "supervisor")
    world.give("clip", Heartbeat(5, -7, 1))
    world.pass_time(300)
    report = world.take("supervisor", StatusReport)[-1]
    found = {peer.name: (peer.remote, peer.offset_ns, peer.error_ns) for peer in report.peers}
    assert found["clip"] == (True, -7, 1)
    assert found["detect"] == (False, 0, 0)


def share(world: World, **of: str) -> None:
    """A run whose broker shares the memory of frames in "here"; `of` says where peers do."""
    for role, name, changes in (
        ("display", "display", {"credits": 8, "wants_pixels": True}),
        ("detect", "detect", {"credits": 2}),
        ("classify", "classify", {"credits": 1}),
        ("capture", "clip", {"source": make_source()}),
    ):
        world.join(role, name, frames=of.get(name, "here"), **changes)


def test_frames_are_shared_where_all_processes_are_of_one_run() -> None:
    world = World(make_broker(frames="here"))
    share(world)
    assert world.take("clip", Grant)[0].encoding == "shared"


@pytest.mark.parametrize("name", ["display", "detect", "clip"])
def test_frames_travel_raw_where_one_process_is_of_another_run(name: str) -> None:
    world = World(make_broker(frames="here"))
    share(world, **{name: "there"})
    assert world.take("clip", Grant)[0].encoding == "raw"


def test_broker_without_shared_memory_asks_for_none() -> None:
    world = World()
    share(world, display="", detect="", clip="")
    assert world.take("clip", Grant)[0].encoding == "raw"


def test_shared_frame_counts_with_its_pixels() -> None:
    world = World(make_broker(frames="here"))
    share(world)
    world.give("clip", make_frame(0, encoding="shared"), [b"capture-1-5-0"])
    assert held(world) == 24
    detect_all(world, faces=0)
    write_all(world)
    assert held(world) == 0


def test_worker_of_another_run_gets_no_shared_frame() -> None:
    world = World(make_broker(frames="here"))
    share(world)
    world.join("detect", "foreign", credits=2, frames="there")
    for sequence in range(4):
        world.give("clip", make_frame(sequence, encoding="shared"), [b"capture-1-5-0"])
    assert not world.take("foreign", Work)
    for _ in range(2):
        detect_all(world, faces=0)
    write_all(world)
    assert world.take("clip", Grant)[-1].encoding == "raw"
    for sequence in range(4, 8):
        world.give("clip", make_frame(sequence), [bytes(24)])
    assert world.take("foreign", Work)
