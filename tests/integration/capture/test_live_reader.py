"""The thread that reads a live source: the newest picture wins, and what hangs in it holds nobody up."""

import queue
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.wire.messages import SourceInfo
from stages.capture import live_feed
from stages.capture.live_feed import LiveReader, Openings
from stages.capture.reader import SourceFailed, SourceStuck, TimedFrame
from tests.support.media import pictures

LONG_S = 20.0  # never waited in full: something happens before


class Camera:
    """A reader that gives what the test puts in, and hangs while there is nothing."""

    def __init__(self) -> None:
        self.info = SourceInfo("camera-0", "live", 4, 2, 25)
        self.comes: queue.Queue[Any] = queue.Queue()
        self.asked = threading.Semaphore(0)
        self.closed = threading.Event()

    def read(self) -> TimedFrame | None:
        self.asked.release()
        given = self.comes.get()
        if isinstance(given, Exception):
            raise given
        return given

    def close(self) -> None:
        self.closed.set()

    def give(self, *given: Any) -> None:
        """Return when all has been taken in and more is asked for."""
        for one in given:
            assert self.asked.acquire(timeout=LONG_S)
            self.comes.put(one)
        assert self.asked.acquire(timeout=LONG_S)
        self.asked.release()


@pytest.fixture
def camera() -> Camera:
    return Camera()


@pytest.fixture
def reader(camera: Camera) -> LiveReader:
    return LiveReader("camera-0", lambda: camera)


def test_it_says_what_it_has_opened(reader: LiveReader, camera: Camera) -> None:
    assert reader.opened() == camera.info
    camera.comes.put(SourceFailed("camera-0: gone"))


def test_the_newest_picture_wins_and_the_others_leave_their_times(reader: LiveReader, camera: Camera) -> None:
    first, second, third, fourth = pictures(4)
    camera.give(first, second, third)
    frames = reader.take(LONG_S)
    assert [live_frame.picture for live_frame in frames[:-1]] == [None, None]
    assert frames[-1].picture is third
    assert [live_frame.captured_ns for live_frame in frames] == sorted(
        live_frame.captured_ns for live_frame in frames
    )
    assert reader.take(0.0) == []
    camera.comes.put(fourth)
    assert [live_frame.picture for live_frame in reader.take(LONG_S)] == [fourth]
    camera.comes.put(SourceFailed("camera-0: gone"))


def test_a_failure_comes_behind_the_last_picture_when_the_source_is_closed(
    reader: LiveReader, camera: Camera
) -> None:
    camera.give(*pictures(1))
    camera.comes.put(SourceFailed("camera-0: gone"))
    assert camera.closed.wait(LONG_S)
    assert len(reader.take(LONG_S)) == 1
    with pytest.raises(SourceFailed, match="camera-0: gone"):
        reader.take(LONG_S)
    assert reader.close()


def test_one_that_does_not_open() -> None:
    def fail() -> Camera:
        raise UserError("source '0': does not open")

    reader = LiveReader("camera-0", fail)
    with pytest.raises(UserError, match="does not open"):
        reader.opened()
    with pytest.raises(UserError, match="does not open"):
        reader.take(LONG_S)


def test_a_driver_that_hangs_holds_nobody_up(
    reader: LiveReader, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "STUCK_S", 0.035)
    monkeypatch.setattr(live_feed, "CLOSE_S", 0.01)
    camera.give(*pictures(1))
    assert len(reader.take(LONG_S)) == 1
    assert [reader.take(0.01) for _ in range(3)] == [[], [], []]
    with pytest.raises(SourceStuck, match="camera-0: its driver hangs"):
        reader.take(0.01)
    assert not reader.close()
    camera.comes.put(pictures(1)[0])
    assert camera.closed.wait(LONG_S), "asked to stop, it closes as soon as it comes back"


def test_one_that_hangs_while_it_opens(monkeypatch: pytest.MonkeyPatch, camera: Camera) -> None:
    monkeypatch.setattr(live_feed, "STUCK_S", 0.02)
    come_back = threading.Event()

    def open_it() -> Camera:
        assert come_back.wait(LONG_S)
        raise SourceFailed("camera-0: gone")

    with pytest.raises(SourceStuck):
        LiveReader("camera-0", open_it).opened()
    come_back.set()


def test_pictures_end_the_silence(
    reader: LiveReader, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "STUCK_S", 0.025)
    for picture in pictures(4):
        assert reader.take(0.02) == []
        camera.give(picture)
        assert len(reader.take(LONG_S)) == 1
    camera.comes.put(SourceFailed("camera-0: gone"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_the_reader_ends_its_opening_alone(reader: LiveReader, camera: Camera) -> None:
    camera.comes.put(ValueError("a fault of ours"))
    with pytest.raises(SourceFailed, match="camera-0: its reader has ended"):
        while True:
            reader.take(0.01)
    assert camera.closed.is_set()


def picture_of(number: int) -> TimedFrame:
    return TimedFrame(np.full((64, 64, 3), number % 251, np.uint8), 0.0)


def news(openings: Openings, numbers: Iterable[int]) -> list[bool]:
    openings.next_opening()
    return [openings.is_news(picture_of(number).image) for number in numbers]


def test_an_opening_that_begins_as_the_one_before_is_no_news() -> None:
    openings = Openings()
    assert all(news(openings, range(20)))
    assert not any(news(openings, range(20)))
    assert not any(news(openings, []))
    assert not any(news(openings, range(12)))


def test_an_opening_that_differs_or_goes_on_is_news() -> None:
    openings = Openings()
    news(openings, range(20))
    assert news(openings, range(100, 103)) == [True, True, True]
    news(openings, range(20))
    assert news(openings, [0, 1, 2, 3, 4, 99, 6, 7, 8])[-2:] == [True, True]  # noticed by the eighth
    news(openings, range(20))
    assert news(openings, range(25))[19:22] == [False, True, True]


def test_days_of_pictures_take_no_room() -> None:
    openings = Openings()
    news(openings, (number % 7 for number in range(5000)))
    assert len(openings._sums) == 13


def test_a_file_is_handed_on_unread(camera: Camera) -> None:
    camera.info = SourceInfo("http://host/clip.mp4", "file", 4, 2, 25)
    reader = LiveReader("http://host/clip.mp4", lambda: camera)
    assert reader.opened().kind == "file"
    assert reader.close()
    assert reader.file is camera
    assert not camera.closed.is_set()
    assert not camera.asked.acquire(blocking=False)
