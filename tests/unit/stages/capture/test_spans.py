"""Numbers and times of frames whose pixels are gone."""

import pytest

from stages.capture import live_feed
from stages.capture.live_feed import Spans


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_feed, "MOST_SPANS", 3)


def of(*times_ns: int) -> Spans:
    made = Spans()
    for number, time_ns in enumerate(times_ns):
        made.add(number, time_ns)
    return made


def test_a_few_keep_their_times() -> None:
    assert list(of(10, 11, 50).since(0)) == [(0, 10), (1, 11), (2, 50)]
    assert list(of(10, 11, 50).since(2)) == [(2, 50)]


def test_of_many_the_oldest_share_a_span() -> None:
    many = of(*range(0, 1000, 10))
    assert len(many._spans) == 3
    assert list(many.since(0)) == [(number, 10 * number) for number in range(100)]


def test_what_is_forgotten_may_end_within_a_span() -> None:
    many = of(*range(0, 100, 10))
    many.forget(4)
    assert many.first == 4
    assert list(many.since(0)) == [(number, 10 * number) for number in range(4, 10)]
    many.forget(10)
    assert many.first is None
    assert list(many.since(0)) == []


def test_frames_of_an_earlier_process_go_before() -> None:
    later = Spans()
    later.add(7, 500)
    later.precede(7, 7, 400)  # none
    later.precede(4, 7, 400)
    assert list(later.since(0)) == [(4, 400), (5, 400), (6, 400), (7, 500)]
