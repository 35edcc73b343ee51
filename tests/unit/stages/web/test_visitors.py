"""Who has which place, what a page may send, and that nobody sees another's pictures."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pipeline.wire.messages import Committed, SourceReport
from pipeline.wire.page_link import Wanted
from stages.display.tracks import MAX_UNSEEN_S
from stages.web import visitors as visitors_module
from stages.web.visitors import CLEAN_S, IDLE_S, MAX_JPEG_BYTES, BadPicture, Camera, Visitors, check_picture
from tests.support.broker_world import make_report
from tests.support.web_world import make_jpeg

JPEG = make_jpeg(1)


class World:
    """The places of a run, what their captures were given, and a clock that the test moves."""

    def __init__(self, *sources: str) -> None:
        self.visitors = Visitors(sources or ("browser#1",), self._give)
        self.given: list[tuple[str, int]] = []
        self.now_s = 1000.0
        self.captured = dict.fromkeys(self.visitors.places, 0)

    async def _give(self, source: str, number: int, jpeg: bytes) -> None:
        self.given.append((source, number))

    def camera(self, key: str = "", *, on: bool = True) -> Camera:
        made = Camera(asyncio.Event())
        if on:
            self.visitors.enter(made, key, self.now_s)
        return made

    async def capture(self, source: str = "browser#1", number: int = 0, trouble: str = "") -> None:
        await self.visitors.want(Wanted(source, number, trouble))

    def report(self, in_flight: int = 0, ended: tuple[str, ...] = ()) -> None:
        sources = [
            SourceReport(name, "live", count, in_flight, Committed(count - in_flight), name in ended, "")
            for name, count in self.captured.items()
        ]
        self.visitors.update(make_report(sources=sources), self.now_s)

    async def ready(self) -> None:
        """Every capture is there, and the broker has told of every source."""
        for source in self.visitors.places:
            await self.capture(source, self.visitors.places[source].number)
        self.now_s += CLEAN_S
        self.report()

    async def put(self, camera: Camera, jpeg: bytes = JPEG) -> None:
        await self.visitors.put(camera, jpeg, self.now_s)

    def ask(self, camera: Camera) -> bool:
        """Give credit if there is some, after as long as that may take."""
        self.now_s += 1
        return camera.ask(self.now_s)


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def test_a_place_is_given_once_its_capture_and_the_broker_know_it() -> None:
    async def scene() -> None:
        world = World()
        camera = world.camera()
        world.report()
        assert world.visitors.state(camera) == "wait"
        await world.capture()
        assert world.visitors.state(camera) == "wait"
        world.report()
        assert world.visitors.state(camera) == "browser#1"

    run(scene())


def test_who_waits_gets_the_next_free_place_in_turn() -> None:
    async def scene() -> None:
        world = World("browser#1", "browser#2")
        await world.ready()
        first, second, third, fourth = (world.camera() for _ in range(4))
        assert [world.visitors.state(one) for one in (first, second, third, fourth)] == [
            "browser#1",
            "browser#2",
            "full",
            "full",
        ]
        world.visitors.leave(second, world.now_s)
        assert world.visitors.state(third) == "wait"
        world.visitors.leave(third, world.now_s)  # who goes while it waits is waited for no more
        await world.ready()
        assert world.visitors.state(fourth) == "browser#2"

    run(scene())


def test_a_place_goes_on_only_when_nothing_of_the_last_visitor_is_under_way() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        first = world.camera()
        assert world.ask(first)
        await world.put(first)
        world.visitors.leave(first, world.now_s)
        second = world.camera()
        world.now_s += 10 * CLEAN_S
        world.report()
        assert world.visitors.state(second) == "wait"  # its capture has not taken the last picture
        await world.capture(number=1)
        world.captured["browser#1"] = 1
        world.report(in_flight=1)
        assert world.visitors.state(second) == "wait"  # it has no outcome yet
        world.report()
        assert world.visitors.state(second) == "browser#1"
        assert not world.visitors.may_see("browser#1", second, frame=0)
        assert world.visitors.may_see("browser#1", second, frame=1)
        assert not world.visitors.may_see("browser#1", first, frame=1)
        assert not world.visitors.may_see("browser#1", None, frame=1)
        assert world.visitors.may_see("clip.mp4", None, frame=0)

    run(scene())


def test_a_page_gets_credit_as_its_pictures_are_taken_and_no_faster_than_the_rate() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        camera = world.camera()
        assert camera.ask(world.now_s) and camera.ask(world.now_s)
        assert not world.ask(camera)  # two are on their way at the most
        await world.put(camera)
        await world.put(camera)  # waits: the capture has not taken the first one yet
        assert not world.ask(camera)
        await world.capture(number=1)
        asked = []
        for _ in range(100):  # 10 ms each
            world.now_s += 0.01
            if camera.ask(world.now_s):
                asked.append(world.now_s)
                camera.credits = 0
        assert 29 <= len(asked) <= 32
        assert world.given == [("browser#1", 1), ("browser#1", 2)]

    run(scene())


def test_the_newest_picture_wins_and_the_numbers_tell_how_many_were_left_out() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        camera = world.camera()
        for _ in range(2):
            assert world.ask(camera)
        await world.put(camera)
        await world.put(camera)
        camera.credits = 1
        await world.put(camera)
        await world.capture(number=1)
        assert world.given == [("browser#1", 1), ("browser#1", 3)]

    run(scene())


def test_a_picture_that_was_not_asked_for_and_one_that_is_none_are_refused() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        camera = world.camera()
        with pytest.raises(BadPicture, match="not asked for"):
            await world.put(camera)
        assert world.ask(camera)
        with pytest.raises(BadPicture, match="JPEG"):
            await world.put(camera, b"garbage")
        assert world.given == []

    run(scene())


def test_a_picture_that_was_asked_for_before_its_place_was_lost_is_no_offence() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        camera = world.camera()
        assert world.ask(camera)
        world.visitors.leave(camera, world.now_s)
        await world.put(camera)
        assert world.given == []

    run(scene())


def test_a_picture_that_can_not_be_decoded_drops_its_own_page_alone() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        first = world.camera()
        assert world.ask(first)
        await world.put(first)
        await world.capture(number=1, trouble="JPEG: broken")
        assert first.trouble == "JPEG: broken"
        world.visitors.leave(first, world.now_s)
        world.captured["browser#1"] = 1
        world.now_s += CLEAN_S
        world.report()
        second = world.camera()
        assert world.visitors.state(second) == "browser#1"
        await world.capture(number=1, trouble="JPEG: broken")  # said again until there is another picture
        assert second.trouble == ""

    run(scene())


def test_a_camera_that_sends_nothing_gives_its_place_to_others() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        camera = world.camera()
        world.now_s += 2 * IDLE_S
        world.report()
        assert world.visitors.state(camera) == "browser#1"  # nothing was asked of it
        assert world.ask(camera)
        world.report()
        assert world.visitors.state(camera) == "idle"
        world.visitors.enter(camera, "", world.now_s)
        await world.ready()
        assert world.visitors.state(camera) == "browser#1"

    run(scene())


def test_a_page_that_comes_back_has_its_place_at_once() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        lost, stranger = world.camera("mine"), world.camera("other")
        back = world.camera("mine")
        assert [world.visitors.state(one) for one in (lost, stranger, back)] == ["off", "full", "browser#1"]
        world.visitors.leave(lost, world.now_s)  # its connection is found to be gone
        assert world.visitors.state(back) == "browser#1"
        assert world.ask(back)
        await world.put(back)
        assert world.given == [("browser#1", 1)]

    run(scene())


def test_pages_without_a_key_do_not_take_each_others_places() -> None:
    async def scene() -> None:
        world = World()
        await world.ready()
        first, second = world.camera(), world.camera()
        assert [world.visitors.state(one) for one in (first, second)] == ["browser#1", "full"]

    run(scene())


def test_a_source_that_has_ended_gives_no_place_and_its_visitor_gets_another() -> None:
    async def scene() -> None:
        world = World("browser#1", "browser#2")
        await world.ready()
        camera = world.camera()
        world.report(ended=("browser#1",))
        assert world.visitors.state(camera) == "browser#2"
        assert [place.source for place in world.visitors.open_places] == ["browser#2"]

    run(scene())


def test_a_new_page_process_goes_on_with_a_capture_that_has_taken_pictures() -> None:
    async def scene() -> None:
        world = World()
        await world.capture(number=57)
        world.captured["browser#1"] = 57
        world.report()
        camera = world.camera()
        assert world.ask(camera)
        await world.put(camera)
        assert world.given == [("browser#1", 58)]
        await world.capture("browser#9")  # of nobody here
        await world.capture(number=0)  # a new capture, whose predecessor had the picture
        assert world.ask(camera)
        await world.put(camera)
        assert world.given[1:] == [("browser#1", 59)]

    run(scene())


@pytest.mark.parametrize(
    ("jpeg", "why"),
    [
        (b"", "header"),
        (b"\xff\xd8\xff" + bytes(100), "header"),
        (b"GIF89a" + bytes(100), "header"),
        (bytes(MAX_JPEG_BYTES + 1), "bytes"),
        (make_jpeg(1, side=1288), "1288×1288 px"),
        (make_jpeg(1, side=8), "8×8 px"),
        (JPEG[:-2] + b"\xff\xda" * 9 + JPEG[-2:], "scans"),
    ],
)
def test_what_no_page_sends_is_refused_before_it_is_decoded(jpeg: bytes, why: str) -> None:
    with pytest.raises(BadPicture, match=why):
        check_picture(jpeg)


def test_what_pages_send_is_taken() -> None:
    check_picture(JPEG)
    check_picture(make_jpeg(1, side=visitors_module.MAX_SIDE))


def test_the_averages_of_a_visitor_are_over_before_the_next_one_comes() -> None:
    assert CLEAN_S >= MAX_UNSEEN_S + 0.5  # a last picture may take that long to its capture
