"""Who is silent for too long: it depends on what there is to do, and on how long that has taken."""

from pipeline.wire.messages import Commit, Committed, Delivery, Died, Heartbeat, StatusReport, Work
from tests.support.broker_steps import send_frames
from tests.support.broker_world import World, detected, make_frame, make_source, pixels

SECOND_NS = 1_000_000_000


def timed_out(world: World, name: str) -> bool:
    return any(f"{name} timed out: silent" in line for line in world.log_lines)


def detect_one(world: World, step_ns: int, worker: str = "detect") -> None:
    (work,) = world.take(worker, Work)
    world.now_ns += step_ns
    world.give(worker, *detected(work, 0, step_ns))


def test_one_that_waits_for_work_may_not_be_silent() -> None:
    world = World()
    world.join_all()
    world.wait(1, silent="detect")
    assert not timed_out(world, "detect")
    world.wait(1, silent="detect")
    assert timed_out(world, "detect")


def test_its_supervisor_is_sent_it_in_the_same_tick() -> None:
    """It may be the last one: a broker whose run is over ends once nobody is left."""
    world = World()
    world.join("supervisor", "supervisor")
    world.join_all()
    world.wait(1, silent="detect")
    while not timed_out(world, "detect"):
        world.take("supervisor", StatusReport)
        for name in ("supervisor", "display", "classify", "clip"):
            world.give(name, Heartbeat())
        world.pass_time(30)
    assert [peer.name for peer in world.take("supervisor", StatusReport)[-1].peers if peer.timed_out] == [
        "detect"
    ]


def test_a_first_step_may_take_long_since_nobody_knows_how_long_they_take() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    world.wait(10, silent="detect")
    assert not timed_out(world, "detect")
    world.wait(1, silent="detect")
    assert timed_out(world, "detect")


def test_a_step_may_take_twenty_times_as_long_as_another_did() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0, 1)
    first, _second = world.take("detect", Work)
    world.now_ns += SECOND_NS // 5
    world.give("detect", *detected(first, 0, SECOND_NS // 5))
    world.wait(4, silent="detect")
    assert not timed_out(world, "detect")
    world.wait(1, silent="detect")
    assert timed_out(world, "detect")


def test_a_frame_ten_times_as_large_may_take_ten_times_as_long() -> None:
    world = World()
    world.join_all(make_source(width=4, height=2))
    send_frames(world, 0)
    detect_one(world, SECOND_NS // 5)
    large = make_frame(1, shape=(20, 4, 3))
    world.give("clip", large, [pixels(large)])
    world.wait(39, silent="detect")
    assert not timed_out(world, "detect")
    world.wait(2, silent="detect")
    assert timed_out(world, "detect")


def test_a_new_process_is_known_to_be_as_slow_as_the_one_before() -> None:
    world = World()
    world.join("supervisor", "supervisor")
    world.join_all()
    send_frames(world, 0)
    detect_one(world, SECOND_NS // 5)
    world.give("supervisor", Died("run/detect"))
    world.joined.remove("detect")
    world.join("detect", "next", credits=2, instance="run/detect")
    send_frames(world, 1)
    world.wait(4, silent="next")
    assert not timed_out(world, "next")
    world.wait(1, silent="next")
    assert timed_out(world, "next")


def test_display_too_is_given_time_by_its_records() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    detect_one(world, 5)
    (delivery,) = world.take("display", Delivery)
    world.wait(9, silent="display")
    assert not timed_out(world, "display")
    world.give("display", Commit(delivery.source, Committed(offset=1, ok=1), [5], SECOND_NS // 10), [b"{}"])
    send_frames(world, 1)
    detect_one(world, 5)
    world.wait(3, silent="display")
    assert timed_out(world, "display")


def test_a_window_may_hold_its_loop_while_it_is_dragged() -> None:
    world = World()
    world.join("display", "window", credits=8, watched=True)
    world.wait(10, silent="window")
    assert not timed_out(world, "window")
    world.wait(1, silent="window")
    assert timed_out(world, "window")
