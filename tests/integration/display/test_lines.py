"""Records on standard output: whole lines, a slow reader, and one that goes."""

import os
import threading

import pytest

from pipeline.common.errors import UserError
from pipeline.wire.assignment import STDOUT_VARIABLE
from stages.display.output_file import OutputFailed, Patience
from stages.display.sinks.results import Lines
from stages.display.sinks.sink import Outcome
from tests.support.deliveries import opening, outcome


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    reading, writing = os.pipe()
    monkeypatch.setenv(STDOUT_VARIABLE, str(writing))
    return reading, writing


def given(line: bytes) -> Outcome:
    delivery = outcome().delivery
    return Outcome(delivery, None, line, None)  # type: ignore[arg-type]


def test_a_slow_reader_gets_everything_and_the_loop_shows_that_it_is_alive(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    waited, read = threading.Event(), bytearray()

    def pause(seconds: float) -> bool:
        waited.set()
        return True

    def reads() -> None:
        assert waited.wait(60)  # only once the pipe is full
        while part := os.read(reading, 5000):
            read.extend(part)

    reader = threading.Thread(target=reads)
    reader.start()
    patience = Patience()
    patience.pause = pause
    sink, line = Lines(opening(patience=patience)), b"x" * 300_000  # more than a pipe holds
    sink.write(given(line))
    sink.write(given(b"y"))
    os.close(writing)
    reader.join(60)
    os.close(reading)
    assert bytes(read) == line + b"\ny\n"
    assert patience.waited_ns > 0
    assert sink.poll() is None


def test_a_reader_that_has_gone_ends_the_run(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sink = Lines(opening())
    os.close(reading)
    sink.write(given(b"x"))
    sink.write(given(b"y"))
    assert sink.poll() == "nobody reads the results any more"
    os.close(writing)


def test_a_process_that_is_to_end_waits_for_no_reader(pipe: tuple[int, int]) -> None:
    patience = Patience()
    patience.pause = lambda seconds: False
    Lines(opening(patience=patience)).write(given(b"x" * 300_000))
    for number in pipe:
        os.close(number)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setenv(STDOUT_VARIABLE, str(full))
    with pytest.raises(OutputFailed, match="results -: cannot be written any more: No space left"):
        Lines(opening()).write(given(b"x"))
    os.close(full)


def test_where_it_cannot_be_handed_over_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STDOUT_VARIABLE, raising=False)
    with pytest.raises(UserError, match="not on this system"):
        Lines(opening())
