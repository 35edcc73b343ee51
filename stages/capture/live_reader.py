"""A live source is opened and read in a thread of its own: whatever hangs in there, the loop goes on."""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from pipeline.errors import UserError
from pipeline.messages import SourceInfo
from pipeline.worker import clock_ns
from stages.capture.reader import CLOSE_S, Picture, Reader, SourceFailed, SourceStuck

STUCK_S: Final = 15.0
"""A driver hangs that has not come back by then: a read gives up by itself after 4 s, opening after 12 s."""


class Shot(NamedTuple):
    """A picture and when it was there; without the picture: a newer one has taken its place."""

    captured_ns: int
    picture: Picture | None


class LiveReader:
    """One opening of a source: the newest of its pictures, and the times of those that it replaced."""

    def __init__(self, name: str, open_source: Callable[[], Reader]) -> None:
        self.info: SourceInfo | None = None
        self._name = name
        self._changed = threading.Condition()
        self._shots: list[Shot] = []
        self._failure: SourceFailed | UserError | None = None
        self._stopped = False
        self._silent_s = 0.0
        self._thread = threading.Thread(target=self._run, args=(open_source,), name="reader", daemon=True)
        self._thread.start()

    def opened(self) -> SourceInfo:
        """Wait until the source is open. Raises UserError if it does not open, SourceStuck if that hangs."""
        while self.info is None:
            self._wait(STUCK_S, lambda: self.info is not None)
        return self.info

    def take(self, timeout_s: float) -> list[Shot]:
        """Wait for a picture; return all since the last call, of which the newest alone has its pixels.

        Raises SourceFailed or UserError when the source has failed, behind its last picture, and SourceStuck.
        """
        self._wait(timeout_s, lambda: bool(self._shots))
        with self._changed:
            shots, self._shots = self._shots, []
        return shots

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True

    def close(self) -> bool:
        """Wait, not for long, until the source is closed; False if its reader hangs."""
        self.stop()
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()

    def _wait(self, timeout_s: float, there: Callable[[], bool]) -> None:
        """Silence is what was waited in vain: a process that was stopped, or a clock, makes none."""
        with self._changed:
            self._changed.wait_for(lambda: there() or self._failure is not None, timeout_s)
            if there():
                self._silent_s = 0.0
            elif self._failure is not None:
                raise self._failure
            elif not self._thread.is_alive():
                raise SourceFailed(f"{self._name}: its reader broke off")
            else:
                self._silent_s += timeout_s
                if self._silent_s >= STUCK_S:
                    raise SourceStuck(f"{self._name}: its driver hangs: no answer for {self._silent_s:.0f} s")

    def _run(self, open_source: Callable[[], Reader]) -> None:
        try:
            reader = open_source()
            try:
                self._read(reader)
            finally:
                reader.close()
        except (SourceFailed, UserError) as error:
            with self._changed:
                self._failure = error
                self._changed.notify()

    def _read(self, reader: Reader) -> None:
        with self._changed:
            self.info = reader.info
            self._changed.notify()
        while not self._stopped:
            picture = reader.read()
            captured_ns = clock_ns()
            if picture is None:
                raise SourceFailed(f"{self._name}: it has ended")
            with self._changed:
                if self._shots:
                    self._shots[-1] = self._shots[-1]._replace(picture=None)
                self._shots.append(Shot(captured_ns, picture))
                self._changed.notify()
