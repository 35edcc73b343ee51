"""What leaves capture for another machine: JPEG where it is wanted, times on the broker's clock."""

import cv2
import numpy as np
import pytest

from pipeline.wire.messages import Frame
from stages.capture.feed import Feed, FileFeed
from stages.capture.live_feed import LiveFeed
from stages.capture.reader import TimedFrame
from tests.support.feed_conversation import FakeSession, accept, grant, options, turn
from tests.support.live_source import INFO, ListSource, never
from tests.support.media import ListReader, noise

WIDTH, HEIGHT = 64, 48


def make(kind: str = "file", count: int = 10) -> tuple[Feed, FakeSession]:
    made = [TimedFrame(noise(n, WIDTH, HEIGHT), n / 25) for n in range(count)]
    if kind == "file":
        return FileFeed(ListReader(made), options(), 1_000_000), FakeSession()
    return LiveFeed(ListSource(made), INFO, never, options("live"), 1_000_000), FakeSession()


@pytest.mark.parametrize("kind", ["file", "live"])
def test_frames_go_as_the_broker_wants_them(kind: str) -> None:
    feed, session = make(kind)
    raw, *_ = turn(feed, session, accept(), grant(1))
    session.pixels[1:] = []
    jpeg, *_ = turn(feed, session, grant(1, encoding="jpeg"))
    assert (raw.encoding, jpeg.encoding) == ("raw", "jpeg")
    assert raw.shape == jpeg.shape == (HEIGHT, WIDTH, 3)
    first, second = session.pixels[:2]
    assert len(first) == 3 * WIDTH * HEIGHT > len(second)
    assert cv2.imdecode(np.frombuffer(second, np.uint8), cv2.IMREAD_COLOR).shape == (HEIGHT, WIDTH, 3)


def test_a_live_frame_that_is_passed_over_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, session = make("live")
    turn(feed, session, accept(), grant(1, encoding="jpeg"))
    monkeypatch.setattr(cv2, "imencode", None)
    heard = turn(feed, session)
    assert [message.shape for message in heard] == [None]


def test_times_are_on_the_brokers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent again to another broker, a frame has that one's time."""
    monkeypatch.setattr("stages.capture.feed.clock_ns", lambda: 5_000)
    feed, session = make()
    session.offset_ns = 1_000_000
    (frame,) = turn(feed, session, accept(), grant(1))
    assert isinstance(frame, Frame) and frame.shape and frame.captured_ns == 1_005_000
    session.offset_ns = -7_000
    again, *_ = turn(feed, session, accept(2), grant(1))
    assert (again.sequence, again.captured_ns) == (0, -2_000)
