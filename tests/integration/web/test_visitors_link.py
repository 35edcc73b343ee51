"""From the page's process to the capture of a visitor's camera, over real ZeroMQ."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.sources import SourceSpec
from pipeline.wire.page_link import VisitorsEnd, Wanted
from stages.capture.live_feed import LiveFeed, LiveFrame
from stages.capture.main import open_feed
from stages.capture.sources.browser import VisitorCamera
from stages.capture.spec import CaptureOptions, CaptureSettings
from tests.support.feed_conversation import FakeSession
from tests.support.web_world import LIMIT_S, make_jpeg

SOURCE = "browser#1"


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/visitors"


@pytest.fixture
def camera(address: str) -> Iterator[VisitorCamera]:
    made = VisitorCamera(address, SOURCE, 1_000_000)
    yield made
    made.close()


class Link:
    """Both ends; the camera is read in a thread, as in a process of its own."""

    def __init__(self, address: str, camera: VisitorCamera) -> None:
        self.end = VisitorsEnd(address)
        self._camera = camera
        self._loop = asyncio.get_running_loop()
        self._frames: asyncio.Queue[list[LiveFrame]] = asyncio.Queue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            if frames := self._camera.take(0.02):
                self._loop.call_soon_threadsafe(self._frames.put_nowait, frames)

    async def wanted(self, number: int) -> Wanted:
        """Wait until the capture has taken a picture, and wants the next one."""
        async with asyncio.timeout(LIMIT_S):
            while (wanted := await self.end.receive()).number != number:
                pass
        return wanted

    async def frames(self) -> list[LiveFrame]:
        async with asyncio.timeout(LIMIT_S):
            return await self._frames.get()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.end.close()


def test_a_picture_comes_when_it_is_wanted_and_is_decoded(address: str, camera: VisitorCamera) -> None:
    async def scene() -> None:
        link = Link(address, camera)
        assert await link.wanted(0) == Wanted(SOURCE, 0, "")
        await link.end.send(SOURCE, 1, make_jpeg(77))
        (frame,) = await link.frames()
        assert frame.picture is not None and frame.picture.image is not None
        assert frame.picture.image.shape == (64, 64, 3)
        assert np.all(frame.picture.image == 77)
        assert await link.wanted(1) == Wanted(SOURCE, 1, "")
        link.close()

    asyncio.run(scene())


def test_pictures_that_were_replaced_on_the_way_are_counted(address: str, camera: VisitorCamera) -> None:
    async def scene() -> None:
        link = Link(address, camera)
        await link.wanted(0)
        await link.end.send(SOURCE, 1, make_jpeg(1))
        assert len(await link.frames()) == 1
        await link.end.send(SOURCE, 4, make_jpeg(4))
        frames = await link.frames()
        assert [frame.picture is None for frame in frames] == [True, True, False]
        link.close()

    asyncio.run(scene())


def test_what_can_not_be_decoded_is_a_frame_that_failed_and_the_page_is_told(
    address: str, camera: VisitorCamera, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scene() -> None:
        link = Link(address, camera)
        await link.wanted(0)
        await link.end.send(SOURCE, 1, make_jpeg(1)[:300] + bytes(100) + b"\xff\xd9")
        await link.frames()
        assert capfd.readouterr().err == ""  # of which the log would be full
        await link.end.send(SOURCE, 2, make_jpeg(1)[:-40])
        (frame,) = await link.frames()
        assert frame.picture is not None and frame.picture.image is None
        assert frame.picture.reason == "unreadable: not a picture, or a damaged one"
        assert await link.wanted(2) == Wanted(SOURCE, 2, frame.picture.reason)
        link.close()

    asyncio.run(scene())


def test_a_page_that_starts_again_is_told_what_is_wanted(address: str, camera: VisitorCamera) -> None:
    async def scene() -> None:
        first = Link(address, camera)
        await first.wanted(0)
        await first.end.send(SOURCE, 1, make_jpeg(1))
        await first.frames()
        first.close()
        second = Link(address, camera)
        await second.wanted(1)
        await second.end.send(SOURCE, 2, make_jpeg(2))
        assert len(await second.frames()) == 1
        second.close()

    asyncio.run(scene())


def test_after_the_stop_nothing_is_wanted(address: str, camera: VisitorCamera) -> None:
    async def scene() -> None:
        link = Link(address, camera)
        await link.wanted(0)
        camera.stop()
        await link.end.send(SOURCE, 1, make_jpeg(1))
        await link.frames()  # what was on its way; behind it nothing is said any more
        link.close()
        end = VisitorsEnd(address)
        waiting = asyncio.ensure_future(end.receive())
        for _ in range(3):
            assert camera.take(0.2) == []
            await asyncio.wait([waiting], timeout=0.01)
        assert not waiting.done()
        waiting.cancel()
        end.close()

    asyncio.run(scene())


def test_after_a_suspension_a_picture_is_wanted_again(address: str) -> None:
    spec = SourceSpec("browser", "browser", SOURCE)
    feed = open_feed(CaptureOptions(spec, CaptureSettings(), page=address), 1_000_000)
    assert isinstance(feed, LiveFeed)
    feed.suspend()

    async def scene() -> None:
        end = VisitorsEnd(address)
        waiting = asyncio.ensure_future(end.receive())
        async with asyncio.timeout(LIMIT_S):
            while not waiting.done():
                await asyncio.to_thread(feed.turn, FakeSession())
        assert waiting.result() == Wanted(SOURCE, 0, "")
        await end.send(SOURCE, 500, make_jpeg(1))  # which a page that saw the process before counts on
        async with asyncio.timeout(LIMIT_S):
            while not (frames := await asyncio.to_thread(feed._capture)):
                pass
        assert len(frames) == 1
        end.close()

    asyncio.run(scene())
    feed.close()
