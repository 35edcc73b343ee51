"""The thread that reads a live source: the newest picture wins, and what hangs in it holds nobody up."""

import queue
import threading
from typing import Any

import pytest

from pipeline.common.errors import UserError
from pipeline.wire.messages import SourceInfo
from stages.capture import live_feed
from stages.capture.live_feed import LiveReader
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
    with pytest.raises(SourceFailed, match="camera-0: its reader broke off"):
        while True:
            reader.take(0.01)
    assert camera.closed.is_set()
