"""Whatever the order of arrivals, answers, deaths and repeats: every frame has exactly one outcome."""

from hypothesis import settings

from tests.support.honest_run import Run

Run.TestCase.settings = settings(max_examples=80, stateful_step_count=60)
TestBalance = Run.TestCase
