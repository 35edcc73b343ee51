"""A file's frames: all of them arrive, whatever becomes of the broker."""

import threading

import pytest

from pipeline.wire.messages import End, Frame, RequestHello, SourceEnded, StopCapture
from stages.capture import feed as feed_module
from stages.capture.feed import POLL_MS, FileFeed
from stages.capture.reader import SourceFailed, SourceStuck, TimedFrame
from tests.support.feed_conversation import FakeSession, accept, grant, options, sequences, turn
from tests.support.media import ListReader, pictures


def make(count: int = 10, **settings: object) -> tuple[FileFeed, FakeSession]:
    return FileFeed(ListReader(pictures(count)), options(**settings), 1000), FakeSession()


class Clock:
    """Stands in for `time` in the feed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(feed_module, "time", self)

    def monotonic(self) -> float:
        return self.now_s


def test_nothing_is_read_before_the_welcome_and_a_grant() -> None:
    feed, session = make()
    assert turn(feed, session, times=3) == []
    assert turn(feed, session, accept(), times=3) == []
    assert len(feed.reader.left) == 10  # type: ignore[attr-defined]
    assert set(session.waits_ms) == {POLL_MS}


def test_a_frame_for_each_credit() -> None:
    feed, session = make()
    heard = turn(feed, session, accept(epoch=7), grant(3), times=5)
    assert sequences(heard) == [0, 1, 2]
    for number, frame in enumerate(heard):
        assert isinstance(frame, Frame) and frame.shape
        assert (frame.source, frame.epoch, frame.shape) == ("clip", 7, (2, 4, 3))
        assert frame.time_s == pytest.approx(number / 25)
        assert session.pixels[number] == bytes([number]) * 24
    assert sequences(turn(feed, session, grant(2, written=1), times=5)) == [3, 4]


def test_while_there_is_something_to_read_it_does_not_wait() -> None:
    feed, session = make()
    turn(feed, session, accept(), grant(3))
    session.waits_ms.clear()
    turn(feed, session)
    assert session.waits_ms == [0]


def test_the_end_is_told_once_behind_the_last_frame() -> None:
    feed, session = make(3)
    heard = turn(feed, session, accept(), grant(8), times=10)
    assert sequences(heard) == [0, 1, 2]
    assert heard[-1] == SourceEnded("clip", 1, 3, "")
    assert sum(isinstance(message, SourceEnded) for message in heard) == 1


def test_an_end_that_came_too_early_is_told(caplog: pytest.LogCaptureFixture) -> None:
    reader = ListReader([*pictures(2), SourceFailed("clip: cut off")])
    feed, session = FileFeed(reader, options(), 1000), FakeSession()
    assert turn(feed, session, accept(), grant(8), times=5)[-1] == SourceEnded("clip", 1, 2, "clip: cut off")
    assert "clip: cut off" in caplog.text


def test_what_is_unreadable_or_too_large_is_failed() -> None:
    reader = ListReader([TimedFrame(None, 0.0, "a.png", "unreadable: no"), *pictures(1)])
    feed, session = FileFeed(reader, options(), 23), FakeSession()
    first, second, _ = turn(feed, session, accept(), grant(3), times=4)
    assert isinstance(first, Frame) and first.shape is None
    assert (first.status, first.reason, first.file) == ("failed", "unreadable: no", "a.png")
    assert (second.status, second.reason) == ("failed", "larger than broker.max_message_bytes")
    assert feed.credits == 1


def test_a_new_broker_gets_what_is_not_written() -> None:
    feed, session = make()
    turn(feed, session, accept(), grant(5), times=5)
    turn(feed, session, grant(0, written=2))
    assert turn(feed, session, RequestHello(), times=3) == []
    heard = turn(feed, session, accept(epoch=2, next_sequence=2), grant(5), times=5)
    assert sequences(heard) == [2, 3, 4, 5, 6]
    assert {frame.epoch for frame in heard} == {2}
    assert session.pixels[-5:] == [bytes([number]) * 24 for number in (2, 3, 4, 5, 6)]


class SlowReader(ListReader):
    """Reads nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__(pictures(3))
        self.go = threading.Event()

    def read(self) -> TimedFrame | None:
        assert self.go.wait(20)
        return super().read()


def test_a_slow_disk_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "POLL_MS", 10)
    reader = SlowReader()
    feed, session = FileFeed(reader, options(), 1000), FakeSession()
    assert turn(feed, session, accept(), grant(8), times=4) == []
    reader.go.set()
    heard: list[object] = []
    while len(heard) < 4:
        heard += turn(feed, session)
    assert sequences(heard) == [0, 1, 2]
    assert feed.close()
    assert reader.closed


def test_a_disk_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "POLL_MS", 10)
    monkeypatch.setattr(feed_module, "STUCK_S", 0.025)
    monkeypatch.setattr(feed_module, "CLOSE_S", 0.01)
    reader = SlowReader()
    feed, session = FileFeed(reader, options(), 1000), FakeSession()
    turn(feed, session, accept(), grant(8))
    with pytest.raises(SourceStuck, match="clip: no answer to a read for 0 s"):
        turn(feed, session, times=5)
    assert not feed.close()
    reader.go.set()


def test_frames_are_sent_again_against_credits() -> None:
    """Whether the new broker grants before or after they would arrive: its account stays right."""
    feed, session = make()
    turn(feed, session, accept(), grant(4), times=5)
    assert turn(feed, session, RequestHello(), accept(epoch=2), times=3) == []
    assert sequences(turn(feed, session, grant(3), times=5)) == [0, 1, 2]
    assert sequences(turn(feed, session, grant(3, written=3), times=5)) == [3, 4, 5]


def test_what_the_broker_has_already_is_not_sent_again() -> None:
    feed, session = make()
    turn(feed, session, accept(), grant(4), times=5)
    heard = turn(feed, session, RequestHello(), accept(epoch=2, next_sequence=3), grant(2), times=5)
    assert sequences(heard) == [3, 4]


def test_two_welcomes_in_a_row() -> None:
    feed, session = make()
    turn(feed, session, accept(), grant(2), times=3)
    turn(feed, session, RequestHello(), RequestHello(), accept(2), grant(2))
    heard = turn(feed, session, accept(3), grant(2), times=4)
    assert [(frame.sequence, frame.epoch) for frame in heard] == [(0, 3), (1, 3)]


def test_a_source_that_had_ended_is_told_again_behind_its_frames() -> None:
    feed, session = make(3)
    turn(feed, session, accept(), grant(8), times=6)
    heard = turn(feed, session, RequestHello(), accept(epoch=2, next_sequence=1), times=3)
    assert sequences(heard) == [1, 2]
    assert heard[-1] == SourceEnded("clip", 2, 3, "")
    assert len(heard) == 3


def test_a_full_buffer_loses_nothing() -> None:
    feed, session = make(3)
    session.room = 2
    assert sequences(turn(feed, session, accept(), grant(8), times=6)) == [0, 1]
    session.room = 1
    assert sequences(turn(feed, session, times=6)) == [2]
    session.room = 5
    assert turn(feed, session, times=6) == [SourceEnded("clip", 1, 3, "")]


def test_a_process_that_goes_on_discards_what_is_written() -> None:
    feed, session = make()
    heard = turn(feed, session, accept(epoch=2, next_sequence=6), grant(3), times=12)
    assert sequences(heard) == [6, 7, 8]
    assert session.pixels[0] == bytes([6]) * 24
    assert heard[0].time_s == pytest.approx(6 / 25)


def test_discarding_stops_with_the_run_and_at_the_end() -> None:
    feed, session = make()
    assert turn(feed, session, accept(next_sequence=8), End(), times=3) == []
    assert feed.over
    assert feed.next_sequence < 8
    reader = ListReader([*pictures(2), SourceFailed("clip: cut off")])
    short = FileFeed(reader, options(), 1000)
    assert turn(short, session, accept(next_sequence=8), times=9) == [
        SourceEnded("clip", 1, 2, "clip: cut off")
    ]


def test_a_stop_ends_the_source_with_all_that_was_numbered() -> None:
    feed, session = make()
    turn(feed, session, accept(), grant(4), times=5)
    assert turn(feed, session, StopCapture(), times=3) == [SourceEnded("clip", 1, 4, "")]
    assert turn(feed, session, grant(4), times=3) == []
    # A new broker that is stopping grants nothing: what is not written goes out all the same.
    heard = turn(feed, session, RequestHello(), accept(2, next_sequence=1), StopCapture(), times=3)
    assert sequences(heard) == [1, 2, 3]
    assert heard[-1] == SourceEnded("clip", 2, 4, "")


def test_a_stop_before_the_welcome() -> None:
    feed, session = make()
    assert turn(feed, session, StopCapture()) == []
    assert turn(feed, session, accept()) == [SourceEnded("clip", 1, 0, "")]


def test_watched_it_plays_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    feed, session = make()
    assert sequences(turn(feed, session, accept(paced=True), grant(8), times=5)) == [0]
    assert session.waits_ms[-1] == 40
    clock.now_s += 0.030
    assert turn(feed, session, times=5) == []
    assert session.waits_ms[-1] == 10
    for number in (1, 2, 3):
        clock.now_s = 100 + number * 0.040
        assert sequences(turn(feed, session, times=5)) == [number]


def test_what_is_late_makes_the_rest_later_and_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    feed, session = make()
    turn(feed, session, accept(paced=True), grant(8), times=5)
    clock.now_s += 1.0
    assert sequences(turn(feed, session, times=1)) == [1]  # was read ahead, and has long been due
    assert sequences(turn(feed, session, times=5)) == [2]  # late as well: the clock is set by it
    clock.now_s += 0.041
    assert sequences(turn(feed, session, times=5)) == [3]


def test_a_little_lateness_adds_up_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    feed, session = make(200)
    turn(feed, session, accept(paced=True), grant(200), times=2)
    for number in range(1, 100):
        clock.now_s = 100 + number * 0.040 + 0.003  # each wake-up is 3 ms late
        assert sequences(turn(feed, session, times=2)) == [number]


def test_the_picture_that_was_read_ahead_waits_for_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    feed, session = make()
    turn(feed, session, accept(paced=True), grant(2), times=3)
    turn(feed, session, RequestHello(), times=2)
    clock.now_s += 1
    assert turn(feed, session, times=3) == []
    heard = turn(feed, session, accept(2, paced=True), grant(2), times=3)
    assert sequences(heard) == [0, 1]
    assert [session.pixels[-2], session.pixels[-1]] == [bytes(24), bytes([1]) * 24]


def test_a_pace_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    feed, session = make(pace_fps=10.0)
    assert sequences(turn(feed, session, accept(), grant(8), times=5)) == [0]
    clock.now_s += 0.09
    assert turn(feed, session, times=3) == []
    clock.now_s += 0.01
    assert sequences(turn(feed, session, times=3)) == [1]


def test_a_read_under_way_is_waited_for_before_the_run_is_suspended() -> None:
    """In one of a web address it would time out."""
    feed, session = make()
    turn(feed, session, accept(), grant(9), times=1)
    feed._reading = feed._thread.submit(feed.reader.read)
    feed.suspend()
    assert feed._reading.done()
