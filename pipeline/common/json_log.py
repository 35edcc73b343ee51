"""Lines of the log as JSON objects, for programs that collect them."""

import json
import logging
import re
import time
from typing import Final

_LINE: Final = re.compile(r"\d\d:\d\d:\d\d (?P<process>[\w.-]+): (?P<message>.*)", re.DOTALL)


class JsonFormatter(logging.Formatter):
    """Formats the records of one process."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; a traceback is a part of the message."""
        return json_line(self._process, record.levelname.lower(), super().format(record))


def json_line(process: str, level: str, message: str) -> str:
    """Return one line of the log: time in UTC, the process, debug to error, and the text."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    values = {"time": now, "process": process, "level": level, "message": message}
    return json.dumps(values, ensure_ascii=False)


def as_json(text: str) -> str:
    """Return a line of the plain log as JSON; one that is JSON already stays as it is."""
    if text.startswith('{"time": '):
        return text
    if text.startswith("error: "):
        return json_line("run", "error", text.removeprefix("error: "))
    match = _LINE.fullmatch(text)
    return json_line(match["process"], "info", match["message"]) if match else json_line("run", "info", text)
