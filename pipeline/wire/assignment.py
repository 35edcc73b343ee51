"""What a child process is given at its start, and the flag that stops it."""

import signal
from types import FrameType
from typing import Final

import msgspec

STDOUT_VARIABLE: Final = "EMOTIONS_STDOUT"
"""Descriptor of the command line's standard output, in the environment of the child that writes there."""

STDIN_VARIABLE: Final = "EMOTIONS_STDIN"
"""Descriptor of the command line's standard input, in the environment of the child that reads it."""

KILLED_STATUS: Final = 137
"""Exit status of a child that ends itself at once, like that of a killed process."""


class Assignment(msgspec.Struct, frozen=True):
    """Sent on standard input: sources may hold passwords, and all users can read command lines."""

    role: str
    module: str  # whose function run(assignment, stop) does the work
    name: str  # as in the log: detect-1
    instance: str  # the same for each restart of this process
    supervisor_pid: int
    address: str
    publish: str
    max_message_bytes: int
    log_level: str
    options: msgspec.Raw  # of the struct that the stage's spec makes
    log_json: bool = False
    frames: str = ""  # directory of shared frames; empty: they travel in messages
    keys: str = ""  # directory of the keys, never a key itself; empty: the address needs none


class StopFlag:
    """Set by SIGTERM and checked by the loops. Before `listen` the signal ends the process at once."""

    def __init__(self) -> None:
        self._set = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._set = True

    def __bool__(self) -> bool:
        return self._set
