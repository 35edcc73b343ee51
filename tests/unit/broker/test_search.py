"""Live frames are searched everywhere from time to time, and in between near the faces that are known."""

from typing import Any

from pipeline.wire.codec import unpack
from pipeline.wire.messages import Work
from stages.faces import Face
from tests.support.broker_steps import write_all
from tests.support.broker_world import World, detected, make_broker, make_frame, make_source

BOX = (1.0, 0.0, 2.0, 2.0)


def make_world(kind: str = "live", interval_s: float = 0.15) -> World:
    world = World(make_broker(search_interval_s=interval_s))
    world.join_all(make_source("clip", kind))  # type: ignore[arg-type]
    return world


def step(world: World, sequence: int, *boxes: tuple[float, float, float, float], ms: float = 33) -> Any:
    """Let a frame be captured after a while, and detected with these faces; return where it was searched."""
    world.now_ns += round(ms * 1e6)
    world.give("clip", make_frame(sequence), [bytes(24)])
    sent = [item for item in world.sent[b"detect"] if isinstance(item.message, Work)]
    (work,) = world.take("detect", Work)
    faces = [Face(box, 0.9) for box in boxes]
    around = unpack(work.arrays, sent[0].buffers[:-1]).get("boxes")
    world.give("detect", *detected(work, faces))
    return None if around is None else [tuple(box) for box in around.tolist()]


def test_frames_between_full_searches_are_searched_near_known_faces() -> None:
    world = make_world()
    searched = [step(world, sequence, BOX) for sequence in range(7)]
    assert searched == [None, [BOX], [BOX], [BOX], [BOX], None, [BOX]]


def test_empty_scene_is_searched_from_time_to_time_alone() -> None:
    world = make_world()
    assert [step(world, sequence) for sequence in range(6)] == [None, [], [], [], [], None]
    write_all(world)


def test_newest_faces_count() -> None:
    world = make_world()
    step(world, 0, BOX)
    step(world, 1, BOX, (0.0, 0.0, 1.0, 1.0))
    assert step(world, 2, BOX) == [BOX, (0.0, 0.0, 1.0, 1.0)]
    assert step(world, 3, BOX) == [BOX]


def test_faces_that_are_too_old_are_not_relied_on() -> None:
    """The answer to the full search is still under way when the next one is due."""
    world = make_world()
    step(world, 0, BOX)
    world.broker.state.ledgers["clip"].recall._seen_ns -= 400_000_000
    assert step(world, 1, BOX) is None


def test_file_is_searched_everywhere() -> None:
    world = make_world("file")
    assert [step(world, sequence, BOX) for sequence in range(3)] == [None, None, None]


def test_interval_of_zero_searches_every_frame_everywhere() -> None:
    world = make_world(interval_s=0.0)
    assert [step(world, sequence, BOX) for sequence in range(3)] == [None, None, None]
