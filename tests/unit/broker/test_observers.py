"""Observers, who are sent the reports and take no part in the work: supervisors and the web page."""

from pipeline.wire.messages import Refused, StatusReport, Work
from tests.support.broker_steps import classify_all, detect_all, send_frames, write_all
from tests.support.broker_world import World


def test_page_is_sent_reports_and_no_work() -> None:
    world = World()
    world.join("web", "web")
    world.join_all()
    send_frames(world, 0)
    world.pass_time(300)
    assert world.take("web", Work) == [] == world.take("web", Refused)
    reports = world.take("web", StatusReport)
    assert reports[-1].started
    assert {peer.name for peer in reports[-1].peers} == {"web", "display", "detect", "classify", "clip"}


def test_page_is_not_sent_instance_ids() -> None:
    """Whoever knows an instance id can take the place of its process."""
    world = World()
    world.join("web", "web")
    world.join_all()
    world.pass_time(300)
    assert all(peer.instance == peer.name for peer in world.take("web", StatusReport)[-1].peers)


def test_a_run_does_not_wait_for_its_page() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0, 1)
    detect_all(world)
    classify_all(world)
    assert len(write_all(world)) == 2
