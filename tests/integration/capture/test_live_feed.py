"""A live source's frames: the newest goes out, each of the others is counted with its reason."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.common.errors import UserError
from pipeline.wire.messages import End, Frame, RequestHello, SourceEnded, StopCapture
from stages.capture import live_feed
from stages.capture.feed import POLL_MS
from stages.capture.live_feed import AHEAD, MOST_TIMES, QUEUED, LiveFeed, LiveFrame
from stages.capture.reader import SourceFailed, TimedFrame
from tests.support.feed_conversation import FakeSession, accept, grant, options, turn
from tests.support.live_source import INFO, ListSource, never
from tests.support.media import pictures


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live_feed, "time", clock)
    return clock


def make(
    given: list[Any] | None = None,
    reopen: Callable[[], ListSource] = never,
    reopen_attempts: int = 5,
    max_bytes: int = 1000,
) -> tuple[LiveFeed, FakeSession]:
    source = ListSource(pictures(1000) if given is None else given)
    told = options("live", reopen_attempts=reopen_attempts)
    return LiveFeed(source, INFO, reopen, told, max_bytes), FakeSession()


def outcomes(messages: list[Any]) -> list[tuple[int, str]]:
    """Number and kind of the frames: "frame" or the reason."""
    return [(m.sequence, "frame" if m.shape else m.reason) for m in messages if hasattr(m, "sequence")]


class Opener:
    """Opens the source again: what is laid out comes of it, in turn."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.opened = 0

    def __call__(self) -> ListSource:
        self.opened += 1
        result = self.results.pop(0)
        return ListSource([result] if isinstance(result, Exception) else result)


def test_frames_before_the_first_grant_are_read_and_not_counted() -> None:
    feed, session = make()
    assert turn(feed, session, times=5) == []
    assert turn(feed, session, accept(), times=5) == []
    assert feed.next_sequence == 0
    session.says.append(grant(2))
    assert outcomes(turn(feed, session)) == [(0, "frame")]
    assert session.pixels[0] != bytes(24), "the newest picture, not the first"


def test_without_credit_it_is_superseded_and_costs_none() -> None:
    feed, session = make()
    session.says.extend([accept(epoch=3), grant(2)])
    heard = turn(feed, session, times=5)
    assert outcomes(heard) == [
        (0, "frame"),
        (1, "frame"),
        (2, "superseded"),
        (3, "superseded"),
        (4, "superseded"),
    ]
    assert [m.epoch for m in heard] == [3] * 5
    assert all(m.status == "dropped" for m in heard[2:])
    session.says.append(grant(1))
    assert outcomes(turn(feed, session, times=2)) == [(5, "frame"), (6, "superseded")]


def test_times_begin_with_the_first_frame_and_grow() -> None:
    feed, session = make()
    session.says.extend([accept(), grant(9)])
    heard = turn(feed, session, times=4)
    assert heard[0].time_s == 0
    assert [m.time_s for m in heard] == sorted(m.time_s for m in heard)
    assert [m.captured_ns for m in heard] == sorted(m.captured_ns for m in heard)


def test_too_large_is_failed() -> None:
    feed, session = make(max_bytes=23)
    session.says.extend([accept(), grant(2)])
    (told,) = turn(feed, session)
    assert (told.status, told.reason) == ("failed", "larger than broker.max_message_bytes")
    assert feed.credits == 2


def test_what_a_vanished_broker_held_is_counted_by_the_next() -> None:
    feed, session = make()
    session.says.extend([accept(), grant(2)])
    turn(feed, session, times=4)  # 0 and 1 as frames, 2 and 3 superseded
    session.says.append(grant(0, written=1))
    session.says.append(RequestHello())
    assert turn(feed, session, times=2) == []  # 4 and 5 have nobody to go to
    session.says.extend([accept(epoch=2, next_sequence=1), grant(2)])
    heard = turn(feed, session, times=2)
    assert outcomes(heard) == [
        *((number, "broker_restarted") for number in range(1, 6)),
        (6, "frame"),
        (7, "frame"),
    ]
    assert {m.epoch for m in heard} == {2}


def test_the_broker_that_has_it_already_is_not_told_again() -> None:
    feed, session = make()
    session.says.extend([accept(), grant(3)])
    turn(feed, session, times=3)
    session.says.extend([RequestHello(), accept(epoch=2, next_sequence=2), grant(1)])
    assert outcomes(turn(feed, session)) == [(2, "broker_restarted"), (3, "frame")]


def test_what_came_between_two_looks_is_counted_and_the_newest_goes_out() -> None:
    newest = pictures(1, start=9)
    feed, session = make([[None, None, *newest], *pictures(1)])
    session.says.extend([accept(), grant(2)])
    heard = turn(feed, session, times=2)
    assert outcomes(heard) == [(0, "superseded"), (1, "superseded"), (2, "frame"), (3, "frame")]
    assert session.pixels[2] == bytes([9]) * 24


def test_a_long_absence_fits_through_a_small_buffer() -> None:
    """More outcomes than the socket's buffer takes: they follow, in order, and none is left out."""
    feed, session = make()
    session.says.extend([accept(), grant(1), RequestHello()])
    turn(feed, session, times=300)
    session.says.extend([accept(epoch=2), grant(2)])
    heard = []
    while feed.next_sequence < 310:
        session.room = 64
        heard += turn(feed, session)
    assert [sequence for sequence, _ in outcomes(heard)] == list(range(len(heard)))
    assert len(heard) == 310
    assert "frame" in dict(outcomes(heard)[300:]).values()


def test_a_process_that_goes_on_numbers_on() -> None:
    feed, session = make()
    session.says.extend([accept(epoch=2, next_sequence=57), grant(1)])
    assert outcomes(turn(feed, session)) == [(57, "frame")]


def test_a_stop_and_the_end_of_the_run() -> None:
    feed, session = make()
    session.says.extend([accept(), grant(3)])
    turn(feed, session, times=2)
    session.says.append(StopCapture())
    assert turn(feed, session, times=3) == [SourceEnded("clip", 1, 2, "")]
    assert session.waits_ms[-1] == POLL_MS
    session.says.append(End())
    assert turn(feed, session) == []
    assert feed.over


def test_one_that_breaks_off_is_opened_again(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    opener = Opener(pictures(5))
    feed, session = make([*pictures(2), SourceFailed("clip: no picture")], opener)
    session.says.extend([accept(), grant(9)])
    assert outcomes(turn(feed, session, times=3)) == [(0, "frame"), (1, "frame")]
    assert turn(feed, session, times=3) == []
    assert session.waits_ms[-1] == POLL_MS  # it waits for messages meanwhile
    clock.now_s += 0.499
    assert turn(feed, session) == []
    assert session.waits_ms[-1] == 1
    assert not opener.opened
    clock.now_s += 0.001
    assert outcomes(turn(feed, session, times=2)) == [(2, "frame"), (3, "frame")]
    assert caplog.messages == [
        "clip: no picture; opened again in 0.5 s (attempt 1 of 5)",
        "clip: pictures come again",
    ]


def test_the_waits_grow_and_then_it_ends(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    opener = Opener(*[UserError("clip: does not open")] * 3)
    feed, session = make([SourceFailed("clip: no picture")], opener, reopen_attempts=3)
    session.says.extend([accept(), grant(1)])
    waits = []
    while feed.ended is None:
        assert turn(feed, session) in ([], [feed]) or feed.ended is not None
        if feed.ended is None:
            waits.append(feed._back_off_ms() / 1000)
            clock.now_s += waits[-1]
    assert waits == [0.5, 1, 2]
    assert feed.ended == "clip: does not open; given up after 3 attempts to open it again"
    session.says.append(accept(epoch=2))
    assert turn(feed, session) == [SourceEnded("clip", 2, 0, feed.ended)]
    assert "opened again in 2.0 s (attempt 3 of 3)" in caplog.text


def test_no_attempt_at_all(clock: Clock) -> None:
    feed, session = make([SourceFailed("clip: no picture")], reopen_attempts=0)
    session.says.append(accept())
    (told,) = turn(feed, session)
    assert told.error.startswith("clip: no picture; given up after 0 attempts")


def test_a_picture_ends_the_row_of_failures(clock: Clock) -> None:
    broken = SourceFailed("clip: no picture")
    feed, session = make([broken], Opener(*[[*pictures(1), broken]] * 6), reopen_attempts=1)
    session.says.extend([accept(), grant(9)])
    for _ in range(6):
        turn(feed, session, times=2)
        clock.now_s += 0.5
    assert feed.ended is None
    assert feed.next_sequence >= 5


def test_one_that_begins_with_the_same_pictures_again_and_again_is_given_up(clock: Clock) -> None:
    """A file that passes for a stream: each opening gives it from its start."""
    broken = SourceFailed("clip: the pictures have stopped")
    again = [[LiveFrame(0, picture, is_news=False)] for picture in pictures(3)]
    feed, session = make([*pictures(3), broken], Opener(*[[*again, broken]] * 3), reopen_attempts=3)
    turn(feed, session, accept(), grant(2))
    for _ in range(40):
        clock.now_s += 40
        turn(feed, session, grant(1))
    assert feed.ended == (
        "clip: the pictures have stopped; given up after 3 attempts to open it again, which gave the same "
        "pictures each time"
    )
    assert feed.next_sequence == 12


def test_news_ends_the_row_of_failures(clock: Clock) -> None:
    broken = SourceFailed("clip: the pictures have stopped")
    first, second = pictures(2)
    given = [[LiveFrame(0, first, is_news=False)], [LiveFrame(0, second)], broken]
    feed, session = make([first, broken], Opener(*[given] * 20), reopen_attempts=1)
    turn(feed, session, accept(), grant(2))
    for _ in range(18):
        clock.now_s += 40
        turn(feed, session, grant(1))
    assert feed.ended is None


def test_a_duration_ends_it() -> None:
    source = ListSource(pictures(1000))
    feed = LiveFeed(source, INFO, never, options("live", duration_s=1e-9), 1000)
    session = FakeSession()
    heard = turn(feed, session, accept(), grant(4), times=4)
    assert (feed.ended, feed.next_sequence) == ("", 1)
    assert [type(message) for message in heard if isinstance(message, SourceEnded)] == [SourceEnded]


def test_a_run_that_begins_during_the_wait_begins(clock: Clock) -> None:
    feed, session = make([SourceFailed("clip: no picture")], Opener(pictures(5)))
    turn(feed, session)
    session.says.extend([accept(), grant(2)])
    assert turn(feed, session) == []
    clock.now_s += 0.5
    assert outcomes(turn(feed, session, times=2)) == [(0, "frame"), (1, "frame")]


def test_a_stop_during_the_wait(clock: Clock) -> None:
    feed, session = make([SourceFailed("clip: no picture")])
    session.says.append(accept())
    turn(feed, session)
    session.says.append(StopCapture())
    assert turn(feed, session) == [SourceEnded("clip", 1, 0, "")]
    clock.now_s += 10
    assert turn(feed, session, times=3) == []  # it is not opened again


def test_unreadable_is_failed() -> None:
    feed, session = make([TimedFrame(None, 0.0, reason="unreadable")])
    session.says.extend([accept(), grant(1)])
    (told,) = turn(feed, session)
    assert isinstance(told, Frame) and told.shape is None
    assert (told.status, told.reason) == ("failed", "unreadable")


def test_hours_without_a_broker_take_no_memory() -> None:
    """Every frame has its outcome all the same, and the broker that comes is not flooded with them."""
    frames = 20_000
    feed, session = make([[None] * 1000] * (frames // 1000))
    session.says.extend([accept(), grant(1), RequestHello()])
    turn(feed, session, times=frames // 1000)
    assert feed.next_sequence == frames
    assert len(feed._times._known) + len(feed._unsent) <= MOST_TIMES + QUEUED
    heard = turn(feed, session, accept(epoch=2), grant(2))
    assert len(heard) == AHEAD
    while len(heard) < frames:
        heard += turn(feed, session, grant(0, written=len(heard)))
        assert len(heard) <= feed.committed.offset + AHEAD
    assert outcomes(heard) == [(number, "broker_restarted") for number in range(frames)]
    times = [m.captured_ns for m in heard]
    assert times == sorted(times)


def test_the_end_is_told_behind_all_that_an_absence_left() -> None:
    frames = 2 * AHEAD
    feed, session = make([[None] * frames])
    session.says.extend([accept(), grant(1), RequestHello()])
    turn(feed, session)
    heard = turn(feed, session, accept(epoch=2), StopCapture(), times=3)
    assert outcomes(heard) == [(number, "broker_restarted") for number in range(frames)]
    assert heard[-1] == SourceEnded("clip", 2, frames, "")


def test_at_the_end_its_reader_is_stopped() -> None:
    feed, session = make()
    source = feed._source
    assert isinstance(source, ListSource)
    assert not source.stopped
    turn(feed, session, accept(), StopCapture())
    assert source.stopped
    assert feed.close()


def test_while_the_run_is_suspended_the_source_is_released() -> None:
    first, second, third = pictures(3)
    opener = Opener([second, third])
    feed, session = make([first], opener)
    assert outcomes(turn(feed, session, accept(), grant(9), times=1)) == [(0, "frame")]
    released = feed._source
    feed.suspend()
    assert (released.stopped, opener.opened) == (True, 0)
    assert outcomes(turn(feed, session, times=2)) == [(1, "frame"), (2, "frame")]
    assert opener.opened == 1
