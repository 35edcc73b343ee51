"""The start and end of every child process: `python -m pipeline.supervisor.child_main NAME`.

Its assignment is a line on standard input. A child has a session of its own, so that Ctrl-C reaches the
supervisor alone, and dies with the supervisor.
"""

import ctypes
import errno
import importlib
import logging
import os
import signal
import sys
import threading
from typing import Final

import msgspec

from pipeline.common.errors import LateError, UserError, first_line
from pipeline.supervisor.log import JsonFormatter
from pipeline.wire.assignment import KILLED_STATUS, Assignment, StopFlag

LATE_STATUS: Final = 3
"""Exit status of a child whose error came after the first frame."""

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Have Linux kill this process when its parent ends, for whatever reason."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def end_with_stdin() -> None:
    """End this process when stdin is closed: the supervisor keeps it open as long as it lives."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(KILLED_STATUS)


def set_up_logging(name: str, level: str, json: bool = False) -> None:
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s {name}: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    if json:
        logging.getLogger().handlers[0].setFormatter(JsonFormatter(name))


def main() -> int:
    assignment = msgspec.json.decode(sys.stdin.buffer.readline(), type=Assignment)
    if sys.platform.startswith("linux"):
        die_with_parent(assignment.supervisor_pid)
    else:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_logging(assignment.name, assignment.log_level, assignment.log_json)
    try:
        module = importlib.import_module(assignment.module)
        status: int = module.run(assignment, StopFlag())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return LATE_STATUS if isinstance(error, LateError) else 2
    except (MemoryError, ImportError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        what = first_line(error)
        mend = "close other programs, run fewer processes, or raise the limit (ulimit -v, ulimit -u)"
        print(f"error: {assignment.name}: no memory or no thread left: {what}; {mend}", file=sys.stderr)
        return 2
    return status


def lacks_memory(error: Exception) -> bool:
    """Whether the system has refused memory or a thread: libraries say so in their own ways."""
    refused = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    said = ("can't start new thread", "failed to map segment", "cannot allocate memory", "bad_alloc")
    return refused or any(words in str(error) for words in said)


if __name__ == "__main__":
    sys.exit(main())
