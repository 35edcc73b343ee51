"""The recordings of a run, one a source."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from stages.display.patience import Patience
from stages.display.recording import Image, Recording, recording_path


class Recordings:
    """Each source has its own file: out.mkv the first, out-2.mkv the second, …"""

    def __init__(
        self,
        path: str,
        sources: list[str],
        begun: dict[str, str],
        patience: Patience,
        on_begin: Callable[[dict[str, str]], None],
    ) -> None:
        """Open a file for each of `sources`; of those captured elsewhere, which are not known yet, for one.

        `begun` is what a process that this one replaces has recorded, by source: that is gone on with in new
        segments. `on_begin` is told what stands there once a recording has its first frame. Raises UserError
        in one line.
        """
        self._path, self._patience, self._on_begin = path, patience, on_begin
        self._begun = dict(begun)
        self._numbered = max(1, len(sources), len(begun))
        self._open: dict[str, Recording] = {}
        self._unclaimed: Recording | None = None  # of the first source that comes
        with contextlib.ExitStack() as opened:
            opened.callback(self.close)
            for number, source in enumerate(sources, start=1):
                self._open[source] = self._recording(source, number)
            if not sources and not begun:
                self._unclaimed = self._recording("", 1)
            opened.pop_all()

    def write(self, source: str, image: Image, time_s: float, fps: float) -> None:
        """Add a frame of `source`: see Recording. Raises OutputFailed."""
        if source not in self._open:
            self._open[source] = self._claim(source)
        self._open[source].write(image, time_s, fps)

    def end_source(self, source: str) -> None:
        """Complete the recording of a source that has no more frames. Raises OutputFailed."""
        recording = self._open.get(source)
        if recording is not None and recording.begun:
            recording.check()
            recording.close()

    def check(self) -> None:
        """Raise OutputFailed if a file is no longer where it was."""
        for recording in self._all:
            recording.check()

    def complete(self) -> None:
        """At the end of a run: no recording of an earlier one stays in the place of one without frames."""
        for recording in self._all:
            if not recording.begun:
                recording.discard()

    def close(self) -> None:
        """Complete and close all, each of them even if another fails. Raises OutputFailed."""
        with contextlib.ExitStack() as closing:
            for recording in self._all:
                closing.callback(recording.close)

    @property
    def _all(self) -> list[Recording]:
        return [*self._open.values(), *([self._unclaimed] if self._unclaimed else [])]

    def _claim(self, source: str) -> Recording:
        """Return the recording of a source that was not known at the start."""
        if self._unclaimed is not None:
            self._unclaimed.close()  # it has shown that it can be written
            self._unclaimed = None
            return self._recording(source, 1)
        if source not in self._begun:
            self._numbered += 1
        return self._recording(source, self._numbered)

    def _recording(self, source: str, number: int) -> Recording:
        if source in self._begun:
            return Recording(Path(self._begun[source]), self._patience, None)
        path = recording_path(self._path, number)

        def begin() -> None:
            self._begun[source] = str(path)
            self._on_begin(self._begun)

        return Recording(path, self._patience, begin)
