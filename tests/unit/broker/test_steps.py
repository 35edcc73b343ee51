"""A run with more steps than detect and classify."""

import numpy as np
import pytest

from pipeline.broker.broker import Broker
from pipeline.broker.spec import BrokerRules
from pipeline.config.schema import BrokerSettings
from pipeline.config.stage import ArraySpec, Step, check_steps
from pipeline.wire.codec import pack
from pipeline.wire.messages import Result, StepFailed, Work
from stages.classify import spec as classify
from stages.detect import spec as detect
from tests.support.broker_steps import classify_all, detect_all, send_frames, write_all
from tests.support.broker_world import World, make_source
from tests.support.sharpness.spec import SharpnessSettings, step

STEPS = [
    detect.step(detect.DetectSettings()),
    classify.step(classify.ClassifySettings()),
    step(SharpnessSettings()),
]
AGE = ArraySpec("age", "float32", ())


@pytest.fixture
def world() -> World:
    world = World(Broker("broker-a", BrokerRules(BrokerSettings(), STEPS, owner="run")))
    world.join("sharpness", "sharpness", credits=1)
    world.join_all(make_source())
    send_frames(world, 0)
    return world


def sharpen(world: World, worker: str, work: Work) -> None:
    arrays, buffers = pack({"sharpness": np.arange(work.items, dtype=np.float32)})
    world.give(worker, Result(work.broker, work.work, work.items, arrays, 5), buffers)


def sharpen_all(world: World, worker: str = "sharpness") -> None:
    for work in world.take(worker, Work):
        sharpen(world, worker, work)


def test_a_frame_waits_for_all_steps(world: World) -> None:
    detect_all(world, faces=3)
    assert classify_all(world) == [3]
    assert write_all(world) == []
    sharpen_all(world)
    (delivery,) = write_all(world)
    assert [(a.name, a.shape) for a in delivery.arrays] == [
        ("boxes", [3, 4]),
        ("scores", [3]),
        ("probabilities", [3, 7]),
        ("sharpness", [3]),
    ]
    assert world.broker.state.held_bytes == 0


def test_a_frame_without_items_waits_for_none(world: World) -> None:
    detect_all(world, faces=0)
    assert [d.status for d in write_all(world)] == ["ok"]


def test_a_step_that_fails_takes_the_frame_from_the_others(world: World) -> None:
    detect_all(world, faces=3)
    (work,) = world.take("sharpness", Work)
    world.give("sharpness", StepFailed(work.broker, work.work, "no sharpness"))
    assert [d.reason for d in write_all(world)] == ["no sharpness"]
    classify_all(world)
    assert world.broker.state.held_bytes == 0


def test_a_busy_worker_gets_nothing_else_until_it_can_take_quarantined_items(world: World) -> None:
    detect_all(world, faces=2)
    classify_all(world)
    world.broker.unreachable(b"sharpness", world.now_ns)  # two items are to be tried alone
    (held,) = world.take("sharpness", Work)
    assert held.items == 2
    world.join("sharpness", "next", credits=2)
    (alone,) = world.take("next", Work)
    assert alone.items == 2
    world.join("sharpness", "busy", credits=2)
    send_frames(world, 1)
    detect_all(world, faces=1)
    (first,) = world.take("busy", Work)
    world.broker.unreachable(b"next", world.now_ns)
    send_frames(world, 2)
    detect_all(world, faces=1)
    assert world.take("busy", Work) == []
    sharpen(world, "busy", first)
    (second,) = world.take("busy", Work)
    assert second.items == 2


def test_items_of_a_lost_worker_are_tried_again_in_their_step_alone(world: World) -> None:
    detect_all(world, faces=3)
    classify_all(world)
    world.broker.unreachable(b"sharpness", world.now_ns)
    world.join("sharpness", "next", credits=1)
    assert classify_all(world) == []
    sharpen_all(world, "next")
    assert [d.status for d in write_all(world)] == ["ok"]


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        (
            [Step("age", [ArraySpec("age", "float32", ())], takes="crops")],
            "step age takes crops; expected frames",
        ),
        (
            [STEPS[0], Step("age", [ArraySpec("age", "float32", ())])],
            "takes frames; expected boxes, crops, scores",
        ),
        ([STEPS[0], Step("age", [], takes="crops")], "step age gives nothing"),
        ([STEPS[0], Step("age", [ArraySpec("boxes", "float32", ())], takes="crops")], "step age gives boxes"),
    ],
)
def test_steps_that_do_not_follow_from_each_other(steps: list[Step], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        check_steps(steps)
