"""Who gets which frame: no viewer sees an old one, and nothing is encoded that nobody asked for."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from pipeline.wire.page_link import Picture
from stages.web import hub as hub_module
from stages.web.hub import Hub, Reader, Viewer
from stages.web.visitors import Visitors


def record(frame: int, source: str = "clip", status: str = "ok") -> bytes:
    return json.dumps({"source": source, "frame": frame, "status": status, "latency_ms": 20.0}).encode()


def picture(frame: int, source: str = "clip") -> Picture:
    return Picture(record(frame, source), b"jpeg %d" % frame)


class World:
    """A hub, and what display was asked for."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.visitors = Visitors(["browser#1"], self._give)
        self.hub = Hub(self._request, self.visitors)

    async def _give(self, source: str, number: int, jpeg: bytes) -> None:
        """Pictures of visitors are not what is tested here."""

    async def _request(self, source: str) -> None:
        self.requests.append(source)

    def viewer(self) -> Viewer:
        made = Viewer()
        self.hub.viewers.add(made)
        return made


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def test_display_is_asked_once_for_all_viewers() -> None:
    async def scene() -> None:
        world = World()
        first, second = world.viewer(), world.viewer()
        await world.hub.want(first, "clip")
        await world.hub.want(second, "clip")
        assert world.requests == ["clip"]
        world.hub.put_picture(picture(7))
        assert list(first.ready) == list(second.ready) == ["clip"]

    run(scene())


def test_nothing_is_asked_for_while_nobody_watches() -> None:
    async def scene() -> None:
        world = World()
        world.viewer()
        world.hub.put_picture(picture(1))
        await world.hub.ask_again()
        assert world.requests == []

    run(scene())


def test_after_its_first_frame_a_viewer_waits_for_a_new_one() -> None:
    async def scene() -> None:
        world = World()
        world.hub.put_picture(picture(1))
        late = world.viewer()
        await world.hub.want(late, "clip")
        assert list(late.ready) == ["clip"]  # at once, though the source may stand still
        late.ready.clear()
        late.seen.add("clip")
        await world.hub.want(late, "clip")
        assert not late.ready
        world.hub.put_picture(picture(2))
        assert list(late.ready) == ["clip"]
        assert world.hub.latest["clip"].jpeg == b"jpeg 2"

    run(scene())


def test_a_stalled_viewer_holds_one_frame_of_a_source() -> None:
    async def scene() -> None:
        world = World()
        stalled = world.viewer()
        await world.hub.want(stalled, "clip")
        for frame in range(1000):
            world.hub.put_picture(picture(frame))
        assert list(stalled.ready) == ["clip"]
        assert len(world.hub.latest) == 1

    run(scene())


def test_a_lost_request_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        world = World()
        await world.hub.want(world.viewer(), "clip")
        await world.hub.ask_again()
        assert world.requests == ["clip"]
        monkeypatch.setattr(hub_module, "ASK_AGAIN_S", 0.0)
        await world.hub.ask_again()
        assert world.requests == ["clip", "clip"]

    run(scene())


def test_a_slow_reader_is_told_how_many_records_it_misses() -> None:
    async def scene() -> None:
        world = World()
        reader = Reader()
        world.hub.readers.add(reader)
        for frame in range(hub_module.MISSED_MAX + 5):
            world.hub.put_record(record(frame))
        assert reader.missed == 5
        assert json.loads(reader.records[0])["frame"] == 5

    run(scene())


def test_latency_is_of_frames_that_are_ok() -> None:
    async def scene() -> None:
        world = World()
        world.hub.put_record(record(0))
        world.hub.put_record(record(1, status="dropped"))
        assert list(world.hub.latency_ms["clip"]) == [20.0]

    run(scene())


def test_names_of_sources_are_bounded() -> None:
    async def scene() -> None:
        world = World()
        for number in range(1000):
            world.hub.put_record(record(0, f"s{number}"))
            world.hub.put_picture(picture(0, f"s{number}"))
        assert len(world.hub.latest) == len(world.hub.latency_ms) == hub_module.MAX_SOURCES

    run(scene())


def test_a_visitor_gets_the_own_pictures_from_the_first_on() -> None:
    async def scene() -> None:
        world = World()
        visitor, other = world.viewer(), world.viewer()
        place = world.visitors.places["browser#1"]
        world.hub.put_picture(picture(3, "browser#1"))  # of the visitor before
        place.camera, place.first_frame = visitor.camera, 4
        for viewer in (visitor, other):
            await world.hub.want(viewer, "browser#1")
            assert not viewer.ready
        world.hub.put_picture(picture(4, "browser#1"))
        assert (list(visitor.ready), list(other.ready)) == (["browser#1"], [])

    run(scene())


def test_programs_are_told_nothing_of_visitors() -> None:
    world, reader = World(), Reader()
    world.hub.readers.add(reader)
    world.hub.put_record(record(1, "browser#1"))
    world.hub.put_record(record(1))
    assert list(reader.records) == [record(1)]
    assert list(world.hub.latency_ms["browser#1"]) == [20.0]
