"""The link between display and the page's process, over real ZeroMQ."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.wire.page_link import PageEnd, Picture
from stages.display.display import Display
from stages.display.sinks.page import LARGEST_SIDE, _fit
from stages.display.spec import DisplaySettings
from stages.web.hub import ASK_AGAIN_S
from tests.support.deliveries import outcome

LIMIT_S = 20.0


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/page"


@pytest.fixture
def display(address: str) -> Iterator[Display]:
    made = Display(DisplaySettings(mode="web"), ["clip.mp4"], None, address)
    assert made.wants_pixels and made.watched
    yield made
    made.close()


class Deliveries:
    """Frames of a run, delivered until what is waited for has come."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self.sequence = 0

    async def until(self, page: PageEnd, drawn: bool) -> Picture:
        """Deliver no faster than the page takes it: records without room would leave none for a frame.

        A frame is asked for again as the page does, since it may be lost with a connection.
        """
        received = asyncio.ensure_future(page.receive())
        asked_s = time.monotonic()
        async with asyncio.timeout(LIMIT_S):
            while not (received.done() and bool(received.result().jpeg) == drawn):
                if received.done():
                    received = asyncio.ensure_future(page.receive())
                if drawn and time.monotonic() - asked_s >= ASK_AGAIN_S:
                    await page.request("clip.mp4")
                    asked_s = time.monotonic()
                self._display.deliver(*outcome(self.sequence, [(10.0, 10.0, 20.0, 20.0)], pixels=True))
                self.sequence += 1
                await asyncio.wait([received], timeout=0.05)
        return received.result()


def test_records_come_by_themselves_and_a_frame_for_a_request(display: Display, address: str) -> None:
    async def scene() -> None:
        page = PageEnd(address)
        deliveries = Deliveries(display)
        first = await deliveries.until(page, drawn=False)
        assert json.loads(first.record)["source"] == "clip.mp4"
        await page.request("clip.mp4")
        await page.request("clip.mp4")  # which makes no second frame
        picture = await deliveries.until(page, drawn=True)
        frame = json.loads(picture.record)["frame"]
        expected = outcome(frame, [(10.0, 10.0, 20.0, 20.0)], pixels=True).image
        found = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert expected is not None and found is not None
        # Noise, of which JPEG keeps the outline: its own frame and not another.
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.5
        page.close()

    asyncio.run(scene())


def test_a_page_that_starts_again_is_found_again(display: Display, address: str) -> None:
    async def scene() -> None:
        deliveries = Deliveries(display)
        for _ in range(2):
            page = PageEnd(address)
            await deliveries.until(page, drawn=False)
            await page.request("clip.mp4")
            await deliveries.until(page, drawn=True)
            page.close()

    asyncio.run(scene())


def test_display_never_waits_for_a_page_that_is_away_or_takes_nothing(display: Display, address: str) -> None:
    for sequence in range(3000):
        assert display.deliver(*outcome(sequence, pixels=True))

    async def scene() -> None:
        page = PageEnd(address)
        for sequence in range(3000, 6000):
            assert display.deliver(*outcome(sequence, pixels=True))
        page.close()

    asyncio.run(scene())


def test_large_frames_are_made_smaller() -> None:
    assert _fit(np.zeros((60, 80, 3), np.uint8)).shape == (60, 80, 3)
    assert _fit(np.zeros((2160, 3840, 3), np.uint8)).shape == (720, LARGEST_SIDE, 3)
    assert _fit(np.zeros((4, 16_000, 3), np.uint8)).shape == (1, LARGEST_SIDE, 3)
