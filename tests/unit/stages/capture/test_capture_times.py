"""Times of frames whose pixels are gone."""

import pytest

from stages.capture import live_feed
from stages.capture.live_feed import CaptureTimes


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_feed, "MOST_TIMES", 3)
    monkeypatch.setattr(live_feed, "clock_ns", lambda: -10)


def of(*times_ns: int) -> CaptureTimes:
    made = CaptureTimes()
    for number, time_ns in enumerate(times_ns):
        made.add(number, time_ns)
    return made


def test_a_few_keep_their_times() -> None:
    assert of(10, 50).of(range(2)) == [10, 50]


def test_of_many_the_older_times_are_interpolated() -> None:
    many = of(*range(0, 1000, 10))
    assert len(many._known) == 3
    assert many.of(range(100)) == list(range(0, 1000, 10))


def test_after_written_frames_are_forgotten_the_others_keep_their_times() -> None:
    many = of(*range(0, 100, 10))
    many.forget(4)
    assert many.of(range(4, 10)) == list(range(40, 100, 10))
    many.forget(10)
    assert len(many._known) == 1


def test_frames_of_an_earlier_process_go_before() -> None:
    later = CaptureTimes()
    assert later.of(range(4, 7)) == [-10] * 3
    later.add(7, 500)
    times_ns = later.of(range(4, 8))
    assert times_ns == sorted(times_ns)
    assert times_ns[-1] == 500
