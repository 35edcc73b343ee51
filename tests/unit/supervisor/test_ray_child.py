"""A process that Ray places, with a stand-in for Ray: what the runner sees of it."""

import queue
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.common.errors import UserError
from pipeline.config.stage import ProcessPlan
from pipeline.supervisor import ray_engine
from pipeline.supervisor.child_process import Lines
from pipeline.supervisor.ray_engine import Placed, RayChild
from tests.support.broker_world import make_assignment

LIMIT_S = 30.0


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class Actor:
    """Plays what each start of a process is to bring: things that are said, or an error at last."""

    def __init__(self) -> None:
        self.scripts: queue.Queue[list[Any]] = queue.Queue()
        self.signals: list[int] = []
        self.gone = threading.Event()
        self.run = SimpleNamespace(remote=lambda *_: self._play())
        self.signal = SimpleNamespace(remote=self.signals.append)

    def _play(self) -> Iterator[Any]:
        for item in self.scripts.get(timeout=LIMIT_S):
            if isinstance(item, Exception):
                raise item
            if isinstance(item, threading.Event):
                assert item.wait(LIMIT_S)
            else:
                yield item


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    actor = Actor()
    made = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: actor))
    package = SimpleNamespace(
        remote=lambda _: made,
        get=lambda item: item,
        kill=lambda one: one.gone.set(),
        exceptions=SimpleNamespace(RayError=RayError, RayActorError=RayActorError),
    )
    monkeypatch.setattr(ray_engine, "ray", package)
    return actor


@pytest.fixture
def lines() -> Lines:
    return queue.Queue()


@pytest.fixture
def child(actor: Actor, lines: Lines) -> RayChild:
    plan = ProcessPlan("detect", "stages.detect.main", "detect-1", msgspec.Struct())
    return RayChild(plan, make_assignment("detect", "detect-1"), lines, "")


def test_it_is_started_heard_and_reaped_once(child: RayChild, actor: Actor, lines: Lines) -> None:
    actor.scripts.put([Placed(77, "10.0.0.2"), "12:00:00 detect-1: hello", 3])
    child.start()
    assert child.wait(LIMIT_S)
    assert (child.pid, child.placed, child.lost) == (77, True, False)
    assert (child.reap(), child.reap()) == (3, None)
    said = [lines.get_nowait() for _ in range(2)]
    assert said[0][1].endswith("detect-1: runs on 10.0.0.2")
    assert said[1] == ("detect-1", "12:00:00 detect-1: hello")


def test_with_its_actor_it_is_lost_and_can_be_started_again(child: RayChild, actor: Actor) -> None:
    actor.scripts.put([Placed(77, "10.0.0.2"), RayActorError()])
    child.start()
    assert child.wait(LIMIT_S)
    assert (child.reap(), child.lost) == (-signal.SIGKILL, True)
    for _ in range(3):
        actor.scripts.put([RayActorError()])  # Ray has not noticed yet
    actor.scripts.put([Placed(78, "10.0.0.3"), 0])
    child.start()
    assert child._ended.wait(LIMIT_S)
    assert (child.reap(), child.lost) == (0, False)


def test_a_machine_that_can_not_start_it_is_a_death(child: RayChild, actor: Actor, lines: Lines) -> None:
    actor.scripts.put([RayError("task failed\nNo module named 'cv2'")])
    child.start()
    assert child._ended.wait(LIMIT_S)
    assert (child.reap(), child.lost) == (-signal.SIGKILL, False)
    assert lines.get_nowait()[1].endswith("detect-1: error: No module named 'cv2'")


def test_signals_reach_it_and_one_that_leaves_gives_its_actor_back(
    child: RayChild, actor: Actor, lines: Lines
) -> None:
    end = threading.Event()
    actor.scripts.put([Placed(77, "10.0.0.2"), end, -15])
    child.start()
    assert lines.get(timeout=LIMIT_S)[1].endswith("runs on 10.0.0.2")
    child.terminate()
    assert actor.signals == [signal.SIGTERM]
    end.set()
    assert child.wait(LIMIT_S) and child.reap() == -15
    assert actor.gone.is_set()


def test_one_without_a_machine_gives_its_actor_back_when_it_is_to_end(child: RayChild, actor: Actor) -> None:
    actor.scripts.put([actor.gone, RayActorError()])
    child.start()
    assert not child.placed and child.wait(0.0)
    child.terminate()
    assert child._ended.wait(LIMIT_S)
    assert child.lost and actor.signals == []


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "ray", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ray_engine.ENVIRONMENT:
        monkeypatch.setenv(name, "")
    with pytest.raises(UserError, match=r"pip install -r requirements-ray\.txt"):
        ray_engine.ray_module()
