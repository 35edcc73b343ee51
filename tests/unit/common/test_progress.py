"""What is said while something takes long, where there is no terminal for a bar."""

import itertools

import pytest

from pipeline.common import progress


def advance_all(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """Do ten parts, each of which takes `step_s` on a clock of the test's own."""
    clock = itertools.count(0.0, step_s)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress("reading", 10) as advance:
        for _ in range(10):
            advance(1)


def test_long_work_says_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    advance_all(monkeypatch, 2.0)
    text = capfd.readouterr()
    assert text.err.splitlines() == [
        "reading: 2 of 10, about 16 s left",
        "reading: 4 of 10, about 12 s left",
        "reading: 6 of 10, about 8 s left",
        "reading: 8 of 10, about 4 s left",
    ]
    assert text.out == ""


def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    advance_all(monkeypatch, 0.2)
    assert capfd.readouterr().err == ""
