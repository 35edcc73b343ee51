"""The log: its file, which outlives the run, and its lines as JSON for programs that collect them.

The file is opened for each line, since lines are few: writing goes on when logrotate moves the file away, and
when a full disk has room again.
"""

import json
import logging
import sys
import time
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from typing import Final

LIMIT: Final = 5_000_000
"""Bytes. A longer file is renamed to FILE.1, that one to FILE.2, up to FILE.3."""

KEPT: Final = 3


class LogFile(RotatingFileHandler):
    """Writes lines; reports when that begins to fail and when it works again. The run goes on."""

    def __init__(self, path: str) -> None:
        """Raises OSError if the file can't be written."""
        super().__init__(path, maxBytes=LIMIT, backupCount=KEPT, encoding="utf-8", errors="backslashreplace")
        self.close()
        self._path = path
        self._errors: list[OSError] = []  # of the present line
        self._failing = False
        self.lost = 0  # lines that could not be written

    def write(self, text: str) -> tuple[str, str] | None:
        """Write a line; return level and text of a message about the file, None as a rule."""
        self._errors.clear()
        self.handle(logging.makeLogRecord({"msg": text}))
        with suppress(OSError):  # which closes it all the same
            self.close()
        failed, self._failing = self._failing, bool(self._errors)
        if self._errors:
            self.lost += 1
            trouble = f"cannot be written: {self._errors[0].strerror}; the run goes on"
            return None if failed else ("error", f"log.file {self._path}: {trouble}")
        if failed:
            return "warning", f"log.file {self._path} is written again, {self.lost} lines missing"
        return None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exception()
        if not isinstance(error, OSError):
            raise
        self._errors.append(error)


class JsonFormatter(logging.Formatter):
    """Formats log records of one process as JSON."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; a traceback is a part of the message."""
        return json_line(self._process, record.levelname.lower(), super().format(record))


def json_line(process: str, level: str, message: str) -> str:
    """Return a line of the log as JSON: time in UTC, process, level, message."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    values = {"time": now, "process": process, "level": level, "message": message}
    return json.dumps(values, ensure_ascii=False)


def as_json(text: str) -> str:
    """Convert a line that a process has written; one of its log is JSON already and returned as it is."""
    if text.startswith('{"time": '):
        return text
    if text.startswith("error: "):
        return json_line("run", "error", text.removeprefix("error: "))
    return json_line("run", "info", text)
