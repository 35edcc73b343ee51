"""Nothing is decided by a clock that can be set; `time.strftime` writes it into the log."""

import ast

import pytest

from pipeline.common.files import PROJECT
from tests.support.sources import sources

OF_THE_DAY = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow"}


def settable(text: str) -> list[str]:
    """Return the clocks that a program reads and that can be set."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [name for call in calls if (name := ast.unparse(call.func)) in OF_THE_DAY]


def test_no_clock_that_can_be_set_is_read() -> None:
    found = {
        str(path.relative_to(PROJECT)): clocks
        for path in sources()
        if (clocks := settable(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize("line", ["time.time()", "datetime.datetime.now()"])
def test_each_would_be_found(line: str) -> None:
    assert settable(line)
