"""The offset between two clocks, from questions and answers."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.wire.session import DRIFT, FIRST_ANSWERS, ClockOffset

MS, S = 1_000_000, 1_000_000_000
TRUTH = 1000 * S
"""The broker's clock is ahead by so much."""


def ask(clock: ClockOffset, now_ns: int, there_ns: int, back_ns: int, truth_ns: int = TRUTH) -> int:
    """Let a question take so long to get there and its answer to come back; return when it has come."""
    received_ns = now_ns + there_ns + back_ns
    clock.answer(now_ns, now_ns + there_ns + truth_ns, received_ns)
    return received_ns


def test_nothing_is_known_before_some_answers() -> None:
    clock = ClockOffset()
    assert clock.offset_ns == clock.error_ns(5) == 0
    for number in range(1 + FIRST_ANSWERS):
        assert not clock.known
        ask(clock, number * S, MS, MS)
    assert clock.known
    assert clock.offset_ns == TRUTH


def test_answers_to_questions_that_waited_for_the_broker_make_no_clock_known() -> None:
    """Heartbeats queue while the broker starts; their round trips hold its start."""
    clock = ClockOffset()
    for number in range(2 * FIRST_ANSWERS):
        ask(clock, number * S // 2, 30 * S - number * S // 2, MS)
    assert not clock.known
    for number in range(FIRST_ANSWERS):
        now_ns = ask(clock, (40 + number) * S, MS, MS)
    assert clock.known
    assert clock.error_ns(now_ns) < 3 * MS


def test_the_answer_with_the_shortest_round_trip_counts() -> None:
    clock = ClockOffset()
    ask(clock, 0, 30 * S, MS)  # the first one has waited for the broker to start
    now_ns = ask(clock, 40 * S, MS, 2 * MS)
    assert abs(clock.offset_ns - TRUTH) == MS // 2
    assert clock.error_ns(now_ns) == 3 * MS // 2
    now_ns = ask(clock, now_ns, 90 * MS, MS)
    assert abs(clock.offset_ns - TRUTH) == MS // 2


@given(
    trips=st.lists(st.tuples(st.integers(0, 5 * S), st.integers(0, 5 * S)), min_size=1, max_size=20),
    gap_ns=st.integers(0, 100 * S),
    truth_ns=st.integers(-(10**15), 10**15),
)
def test_the_error_is_never_understated(trips: list[tuple[int, int]], gap_ns: int, truth_ns: int) -> None:
    clock, now_ns = ClockOffset(), 10**16
    for there_ns, back_ns in trips:
        now_ns = ask(clock, now_ns + gap_ns, there_ns, back_ns, truth_ns)
        assert abs(clock.offset_ns - truth_ns) <= clock.error_ns(now_ns) + 1


def test_old_answers_give_way_as_clocks_drift() -> None:
    """One clock runs as far ahead of the other as they may: the error covers it at every moment."""
    clock, now_ns = ClockOffset(), 0
    ask(clock, now_ns, 0, 0)
    for _ in range(100):
        now_ns = ask(clock, now_ns + S, 2 * MS, 0, TRUTH + round(DRIFT * now_ns))
        assert abs(clock.offset_ns - TRUTH - DRIFT * now_ns) <= clock.error_ns(now_ns) + 1000
    assert clock.error_ns(now_ns) < 10 * MS
    assert clock.offset_ns > TRUTH + 30 * MS


def test_a_clock_that_has_jumped_is_believed_at_once() -> None:
    """A suspended machine's monotonic clock stands still."""
    clock = ClockOffset()
    ask(clock, 0, 0, 0)
    ask(clock, S, 5 * MS, 5 * MS, TRUTH - 60 * S)
    assert clock.offset_ns == TRUTH - 60 * S


def test_an_answer_to_what_was_not_asked_yet_is_ignored() -> None:
    clock = ClockOffset()
    clock.answer(sent_ns=10, broker_ns=5, received_ns=9)
    assert clock.offset_ns == 0
