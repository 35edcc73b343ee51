"""A spare classifier: warm, and without work while the others are there."""

from pipeline.messages import Classified, ClassifyWork
from tests.builders import World, make_broker, probabilities
from tests.pipeline.broker.test_broker import detect_all, send_frames, write_all


def test_a_spare_gets_work_only_while_another_is_missing() -> None:
    world = World()
    world.join_all()
    world.join("classify", "spare", credits=1, spare=True)
    send_frames(world, 0)
    detect_all(world, faces=1)
    assert not world.take("spare", ClassifyWork)

    world.broker.unreachable(b"classify", world.now_ns)
    world.drain()
    (work,) = world.take("spare", ClassifyWork)
    world.give("spare", Classified(work.broker, work.work, 1, 5), [probabilities(1)])
    assert [d.status for d in write_all(world)] == ["ok"]

    world.join("classify", "classify-again", credits=1)
    send_frames(world, 1)
    detect_all(world, faces=1)
    assert not world.take("spare", ClassifyWork)
    assert world.take("classify-again", ClassifyWork)


def test_the_broker_does_not_hurry_for_a_spare_that_may_not_work() -> None:
    """A free spare is no reason to wake: the crops wait for the classifier that is busy."""
    world = World(make_broker(max_delay_ms=5.0))
    world.join_all()
    world.join("classify", "spare", credits=1, spare=True)
    send_frames(world, 0, 1)
    detect_all(world, faces=1)
    world.pass_time(6)
    detect_all(world, faces=1)
    send_frames(world, 2)
    detect_all(world, faces=1)
    assert world.take("classify", ClassifyWork)
    assert world.broker.due_ns() is None
