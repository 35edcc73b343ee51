"""Lines of the log as JSON."""

import json
import logging
import re
import sys

from pipeline.supervisor.log import JsonFormatter, as_json


def fields(line: str) -> tuple[str, str, str]:
    values = json.loads(line)
    assert list(values) == ["time", "process", "level", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", values["time"])
    return values["process"], values["level"], values["message"]


def test_lines_besides_the_log() -> None:
    assert fields(as_json("error: no file")) == ("run", "error", "no file")
    assert fields(as_json("Segmentation fault: \x1b")) == ("run", "info", "Segmentation fault: \x1b")


def test_what_is_json_already_stays() -> None:
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "frame %d", (7,), None)
    line = JsonFormatter("display").format(record)
    assert fields(line) == ("display", "warning", "frame 7")
    assert as_json(line) == line


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "broken", (), sys.exc_info())
    line = JsonFormatter("capture-1").format(record)
    assert "\n" not in line
    assert fields(line)[2].startswith("broken\nTraceback")
