"""How long the outputs of a run wait for room on a full disk."""

import errno
import logging
import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 10.0
"""Somebody who is told may make room within seconds. The run stands still meanwhile, so no longer."""

RETRY_S: Final = 0.2
FULL: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

log = logging.getLogger(__name__)


class Patience:
    """Shared by all outputs: when it has run out for one, the others are closed without waiting again."""

    def __init__(self, limit_s: float = PATIENCE_S) -> None:
        self._limit_s = limit_s
        self._until_s: float | None = None
        self.waited_ns = 0  # in all
        self.pause: Callable[[float], bool] = _sleep
        """Wait for so many seconds; False if the process is asked to end. The loop puts its own here, which
        shows that it is alive."""

    def wait(self, output: str, error: OSError) -> bool:
        """Wait a moment for room; False if there has been none for too long."""
        now_s = time.monotonic()
        if self._until_s is None:
            self._until_s = now_s + self._limit_s
            log.warning("%s: %s; waiting up to %.0f s for room", output, error.strerror, self._limit_s)
        go_on = now_s < self._until_s and self.pause(RETRY_S)
        self.waited_ns += round((time.monotonic() - now_s) * 1e9)
        return go_on

    def rewarded(self, output: str) -> None:
        """There is room again."""
        self._until_s = None
        log.warning("%s: is written again", output)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True
