"""Records as lines of JSON on standard output: `--results -`."""

import os
import select
import sys
from typing import Final

from pipeline.common.errors import UserError
from pipeline.wire.assignment import STDOUT_VARIABLE
from stages.display.output_file import OutputFailed, Patience
from stages.display.sinks.sink import Outcome, Sink

SAFE_BYTES: Final = 4096 if sys.platform == "linux" else 512
"""A pipe that is said to take something takes so much at once (PIPE_BUF)."""

WAIT_S: Final = 0.1


class Lines(Sink):
    """Standard output of the command line, which this process was given besides its own."""

    def __init__(self, patience: Patience) -> None:
        """Raises UserError where the system can't hand it over."""
        number = os.environ.get(STDOUT_VARIABLE)
        if number is None:
            raise UserError("results -: not on this system; name a file that ends in .jsonl")
        self._fd = int(number)
        self._patience = patience
        self._gone = False  # nobody reads it any more

    def write(self, outcome: Outcome) -> None:
        """Write the whole line. A slow reader is waited for, while this process shows that it is alive."""
        rest = memoryview(outcome.line + b"\n")
        while rest and not self._gone:
            try:
                if select.select([], [self._fd], [], WAIT_S)[1]:
                    rest = rest[os.write(self._fd, rest[:SAFE_BYTES]) :]
                    continue
                self._patience.waited_ns += round(WAIT_S * 1e9)
                if not self._patience.pause(0):
                    return
            except BrokenPipeError:
                self._gone = True
            except OSError as error:
                raise OutputFailed("results", "-", error) from error

    def poll(self) -> str | None:
        """End the run when the reader has gone, as `| head` does."""
        return "nobody reads the results any more" if self._gone else None
