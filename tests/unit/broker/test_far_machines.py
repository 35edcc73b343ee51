"""Stages on other machines: a link that breaks is no death, and a new broker waits for far sources."""

from collections.abc import Callable

import pytest

from pipeline.wire.messages import (
    Commit,
    Committed,
    Delivery,
    Died,
    End,
    Goodbye,
    Heartbeat,
    Refused,
    RequestHello,
    SourceEnded,
    Work,
)
from tests.support.broker_world import (
    World,
    classified,
    detected,
    make_broker,
    make_frame,
    make_source,
    pixels,
)

LONG_MS = 30_000.0


@pytest.fixture
def world() -> World:
    """Display and capture beside the broker, a supervisor and its workers on another machine."""
    world = World()
    world.join("display", "display", credits=8)
    world.join("supervisor", "supervisor", instance="far", remote=True)
    world.join("classify", "classify", credits=1, instance="far/classify", remote=True)
    world.join("detect", "detect", credits=1, instance="far/detect", remote=True)
    world.join("capture", "clip", source=make_source())
    return world


def stay(world: World, *names: str) -> None:
    """Let time pass for long enough that only `names` are still there."""
    for _ in range(60):
        for name in names:
            world.give(name, Heartbeat())
        world.pass_time(LONG_MS / 60)


def silence(world: World, role: str) -> None:
    stay(world, "display", "clip", "supervisor", "detect" if role == "classify" else "classify")
    assert role not in [peer.hello.name for peer in world.broker.state.peers]


def back(world: World, role: str) -> None:
    world.join(role, role, credits=1, instance=f"far/{role}", remote=True)


def give_work(world: World, role: str) -> None:
    world.give("clip", make_frame(0), [pixels(make_frame(0))])
    if role == "classify":
        (work,) = world.take("detect", Work)
        world.give("detect", *detected(work, 1))


def outcomes(world: World) -> list[str]:
    return [f"{item.status} {item.reason}".strip() for item in world.take("display", Delivery)]


def reset(world: World, role: str) -> None:
    """Its connection is gone: what is sent to it does not arrive."""
    world.broker.unreachable(role.encode(), world.now_ns)
    world.drain()


@pytest.mark.parametrize("lose", [silence, reset], ids=["silence", "reset"])
@pytest.mark.parametrize("role", ["detect", "classify"])
def test_a_link_that_breaks_again_and_again_costs_no_frame(
    world: World, role: str, lose: Callable[[World, str], None]
) -> None:
    give_work(world, role)
    for _ in range(5):
        lose(world, role)
        back(world, role)
    if role == "detect":
        (*_, work) = world.take("detect", Work)
        world.give("detect", *detected(work, 0))
    else:
        (*_, batch) = world.take("classify", Work)
        world.give("classify", *classified(batch, 1))
    assert outcomes(world) == ["ok"]


@pytest.mark.parametrize("lose", [silence, reset], ids=["silence", "reset"])
@pytest.mark.parametrize("role", ["detect", "classify"])
def test_a_worker_that_its_supervisor_reports_has_died(
    world: World, role: str, lose: Callable[[World, str], None]
) -> None:
    """Silent first, so that the broker can't tell; then its supervisor reports it, and starts the next."""
    give_work(world, role)
    lose(world, role)  # not alone yet
    back(world, role)
    for _ in range(2):
        lose(world, role)
        world.join("supervisor", "supervisor", instance="far", remote=True)
        world.give("supervisor", Died(f"far/{role}"))
        world.give("supervisor", Died(f"far/{role}"))  # reported twice, it is one death
        assert world.broker.state.ledgers["clip"].in_flight == 1 or outcomes(world) == ["failed worker_died"]
        back(world, role)
    assert world.broker.state.unheard == {}
    assert world.broker.state.ledgers["clip"].pending[0].reason == "worker_died"


def test_a_successor_tells_of_a_death_too(world: World) -> None:
    give_work(world, "detect")
    silence(world, "detect")
    back(world, "detect")
    for number in range(2):
        name = "detect" if number == 0 else "detect-next"
        world.broker.unreachable(name.encode(), world.now_ns)
        world.drain()
        world.join("detect", f"detect-{'next' if number == 0 else 'last'}", credits=1, instance="far/detect",
                   remote=True)  # fmt: skip
    assert outcomes(world) == ["failed worker_died"]


def test_a_process_that_comes_back_after_its_successor_is_refused(world: World) -> None:
    """A machine whose cable was out: the two would else replace each other, and frames would seem deadly."""
    give_work(world, "detect")
    silence(world, "detect")
    world.join("detect", "detect-next", credits=1, instance="far/detect", remote=True)
    (work,) = world.take("detect-next", Work)
    back(world, "detect")
    assert world.take("detect", Refused)
    world.give("detect-next", *detected(work, 0))
    assert outcomes(world) == ["ok"]


def hear_no_more(world: World) -> None:
    """The far machine falls silent, its worker in the middle of a step that may take ten seconds."""
    for _ in range(20):
        for name in ("display", "clip", "near", "own"):
            world.give(name, Heartbeat())
        world.pass_time(100)


@pytest.mark.parametrize(
    "lose", [hear_no_more, lambda world: reset(world, "supervisor")], ids=["silence", "reset"]
)
def test_with_a_remote_supervisor_its_workers_are_lost(world: World, lose: Callable[[World], None]) -> None:
    give_work(world, "detect")
    (work,) = world.take("detect", Work)
    world.join("supervisor", "own")
    world.join("detect", "near", credits=1)
    world.log_lines.clear()
    lose(world)
    (again,) = world.take("near", Work)
    (line,) = world.log_lines
    assert line.startswith("supervisor ") and line.endswith(
        "; lost with it: detect, classify; work that goes to others: 1 (clip frame 0)"
    )
    world.give("detect", *detected(work, 0))  # only the network failed: it joins again
    assert world.take("detect", RequestHello)
    world.give("near", *detected(again, 0))
    assert outcomes(world) == ["ok"]
    back(world, "detect")
    world.give("clip", make_frame(1), [pixels(make_frame(1))])
    assert len(world.take("detect", Work) + world.take("near", Work)) == 1


def test_a_supervisor_that_says_hello_again_keeps_its_workers(world: World) -> None:
    give_work(world, "detect")
    world.join("supervisor", "supervisor", instance="far", remote=True)
    (work,) = world.take("detect", Work)
    world.give("detect", *detected(work, 0))
    assert outcomes(world) == ["ok"]


def test_on_the_brokers_own_machine_silence_is_death() -> None:
    world = World()
    world.join_all(detect_credits=1)
    world.give("clip", make_frame(0), [pixels(make_frame(0))])
    for _ in range(3):
        stay(world, "display", "clip", "classify")
        world.join("detect", "detect", credits=1)
    assert outcomes(world) == ["failed worker_died"]


# ------------------------------------------------------------------------------ the end of a far source


def finished(world: World, name: str, written: int) -> None:
    """A source that has ended before, whose capture comes back to a new broker."""
    committed = {name: Committed(written, written)}
    world.join("capture", name, source=make_source(name), committed=committed)
    world.give(name, SourceEnded(name, 1, written))


def new_broker(world: World, known: dict[str, Committed]) -> None:
    world.join("display", "display", credits=8, committed=known)
    world.join("detect", "detect", credits=1)
    world.join("classify", "classify", credits=1)


def test_a_new_broker_waits_for_sources_that_display_knows() -> None:
    world = World(make_broker())
    new_broker(world, {"a": Committed(3, 3), "b": Committed(1, 1)})
    finished(world, "a", 3)
    stay(world, "display", "detect", "classify", "a")
    assert world.take("a", End) == []
    world.join("capture", "b", source=make_source("b"), committed={"b": Committed(1, 1)})
    world.give("b", make_frame(1, source="b"), [pixels(make_frame(1))])
    world.give("b", SourceEnded("b", 1, 2))
    for _ in range(2):
        for work in world.take("detect", Work):
            world.give("detect", *detected(work, 0))
    world.give("display", Commit("b", Committed(2, 2), [], 1), [])
    assert len(world.take("a", End)) == len(world.take("b", End)) == 1


def test_a_new_broker_waits_for_sources_that_nobody_knows_yet() -> None:
    world = World(make_broker())
    new_broker(world, {"a": Committed(3, 3)})
    finished(world, "a", 3)
    world.pass_time(1000)
    assert world.take("a", End) == []
    world.join("capture", "b", source=make_source("b"))
    stay(world, "display", "detect", "classify", "a", "b")
    assert world.take("a", End) == []


def test_and_ends_when_none_comes() -> None:
    world = World(make_broker())
    new_broker(world, {"a": Committed(3, 3)})
    finished(world, "a", 3)
    stay(world, "display", "detect", "classify", "a")
    assert len(world.take("a", End)) == 1
    world.give("a", Goodbye())


def test_where_the_sources_are_known_nothing_is_waited_for() -> None:
    world = World(make_broker(sources=["a"]))
    new_broker(world, {"a": Committed(3, 3)})
    finished(world, "a", 3)
    assert len(world.take("a", End)) == 1
