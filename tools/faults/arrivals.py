"""When records arrive in a results file that is being written, and by a display that may be killed."""

import itertools
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final

LOOK_S: Final = 0.01


class Arrivals:
    """Use as a context manager: follows the file from its start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0  # behind the last complete line: a display that starts again cuts off no other
        self._ok_s: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def back_since(self, moment_s: float) -> bool:
        """Whether results have come for frames of after `moment_s`, on the clock of time.monotonic."""
        return bool(self._ok_s) and self._ok_s[-1] > moment_s

    def longest_gap_s(self, since_s: float) -> float:
        """The longest time without a result, from the last one before `since_s` on."""
        before = [moment for moment in self._ok_s if moment <= since_s][-1:]
        moments = [*before, *(moment for moment in self._ok_s if moment > since_s)]
        return max((b - a for a, b in itertools.pairwise(moments)), default=float("inf"))

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(LOOK_S):
            if self._path.exists():
                self._look()

    def _look(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                if json.loads(line)["status"] == "ok":
                    self._ok_s.append(time.monotonic())
