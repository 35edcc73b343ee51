"""Signals that ask the parent to end the run. Handlers only record: the loop acts."""

import signal
from types import FrameType, TracebackType
from typing import Any, Final

_ASKING: Final = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one: the terminal is gone; not on Windows


class Signals:
    """Use as a context manager: within it, the signals that arrive are collected in `received`."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for name in _ASKING:
            number = getattr(signal, name, None)
            # Whoever had SIGHUP ignored (nohup) wants the run to outlive the terminal.
            if number is None or (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                continue
            self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
