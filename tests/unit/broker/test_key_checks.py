"""A key is bound to its role and its holder: nobody takes part, or sends, in another's name."""

import pytest

from pipeline.wire.messages import Accept, Heartbeat, MessageError, Refused, Work
from tests.support.broker_world import World, detected, make_frame, make_hello, make_source, pixels


@pytest.fixture
def world() -> World:
    return World(supervised=False)


def hello(world: World, role: str, name: str, key: str, **changes: object) -> None:
    world.broker.receive(name.encode(), make_hello(role, name, **changes), [], world.now_ns, key)
    world.drain()


@pytest.mark.parametrize("key", ["detect", "detect-attic"])
def test_a_key_takes_part_as_what_it_is_for(world: World, key: str) -> None:
    hello(world, "detect", "detect-1", key, credits=1)
    assert len(world.take("detect-1", Accept)) == 1


@pytest.mark.parametrize("role", ["capture", "classify", "display", "supervisor"])
def test_and_as_nothing_else(world: World, role: str) -> None:
    source = make_source() if role == "capture" else None
    hello(world, role, "liar", "detect-attic", source=source)
    (refused,) = world.take("liar", Refused)
    assert refused.reason == f"liar: the key 'detect-attic' is not for {role}"
    assert refused.reason in world.log_lines[0]
    assert list(world.broker.state.peers) == []


@pytest.mark.parametrize("key", ["", "detectx", "attic-detect"])
def test_a_key_of_another_name_is_for_nothing(world: World, key: str) -> None:
    hello(world, "detect", "detect-1", key)
    assert len(world.take("detect-1", Refused)) == 1


def test_a_place_is_taken_over_by_the_same_key_only(world: World) -> None:
    hello(world, "detect", "detect-1", "detect-attic", instance="s", credits=1)
    hello(world, "detect", "other", "detect-cellar", instance="s", credits=1)
    assert len(world.take("other", Refused)) == 1
    hello(world, "detect", "detect-1b", "detect-attic", instance="s", credits=1)
    assert [peer.identity for peer in world.broker.state.peers] == [b"detect-1b"]


def test_a_message_in_anothers_name_does_nothing(world: World) -> None:
    """Its answer is counted as bad, its garbage takes no work away, its hello takes no place."""
    world.join("display", "display", credits=8)
    world.join("classify", "classify", credits=1)
    hello(world, "detect", "detect-1", "detect-attic", credits=1)
    world.join("capture", "clip", source=make_source())
    world.give("clip", make_frame(0), [pixels(make_frame(0))])
    (work,) = world.take("detect-1", Work)
    answer, buffers = detected(work, 0)

    world.broker.receive(b"detect-1", answer, buffers, world.now_ns, "detect-cellar")
    world.broker.receive(b"detect-1", MessageError("garbage"), (), world.now_ns, "detect-cellar")
    world.broker.receive(b"detect-1", Heartbeat(), [], world.now_ns, "detect-cellar")
    world.drain()
    hello(world, "detect", "detect-1", "detect-cellar", credits=1)
    state = world.broker.state
    assert state.metrics.bad_messages == 4
    assert state.ledgers["clip"].in_flight == 1
    assert [peer.key for peer in state.peers.of("detect")] == ["detect-attic"]

    world.broker.receive(b"detect-1", answer, buffers, world.now_ns, "detect-attic")
    assert state.metrics.steps["detect"] == 1
