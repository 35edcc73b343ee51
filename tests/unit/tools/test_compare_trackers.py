"""Errors that are known."""

from tools.compare_trackers import MISSED, WALKERS, Errors, Step, errors, walker_steps

BOX = (0.0, 0.0, 10.0, 10.0)


def test_switches_and_fragments_are_counted() -> None:
    numbers = iter([[1, 2], [1, 2], [2, 1], [3, 1], [3, 1]])
    steps = [Step(time_s, [BOX, BOX], [0.9, 0.9], [0, 1]) for time_s in (0.0, 0.1, 0.2, 0.3, 9.0)]
    assert errors(steps, lambda step: next(numbers)) == Errors(switches=2, fragments=1)


def test_who_was_away_for_long_may_get_a_new_number() -> None:
    numbers = iter([[1], [2]])
    steps = [Step(time_s, [BOX], [0.9], [0]) for time_s in (0.0, 9.0)]
    assert errors(steps, lambda step: next(numbers)) == Errors(0, 0)


def test_walkers_are_the_same_each_time_and_hide_each_other() -> None:
    steps = walker_steps(3, 25.0)
    assert steps == walker_steps(3, 25.0)
    found = sum(len(step.people) for step in steps) / (len(steps) * WALKERS)
    assert 0.5 < found < 1 - MISSED
