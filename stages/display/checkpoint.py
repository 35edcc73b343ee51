"""What a display process leaves, in the run's own directory, for the one that may have to replace it.

The replacement reads the results from the last checkpoint on instead of from their beginning, so that it is
there as fast after a month as after a minute. Each checkpoint takes the place of the last one in one step: a
process that is killed at any moment leaves a whole one.
"""

import logging
from pathlib import Path

import msgspec

from pipeline.errors import UserError
from pipeline.messages import Progress
from stages.display.failure import OutputFailed, why
from stages.display.tracker import TrackerState

log = logging.getLogger(__name__)


class ResultsMark(msgspec.Struct, frozen=True):
    """Where in the results the checkpoint was made: all before is accounted for in `sources`."""

    offset: int  # bytes
    identity: tuple[int, int]  # of the file: device and number


class SourceState(msgspec.Struct, frozen=True):
    """Of a source, what its next records depend on."""

    progress: Progress = Progress()
    tracker: TrackerState = TrackerState()


class State(msgspec.Struct, frozen=True):
    """A checkpoint. Until it says `begun`, this run has not touched the outputs."""

    begun: bool = False
    results: ResultsMark | None = None
    recordings: dict[str, str] = {}  # source -> its first file, once this run has begun it
    sources: dict[str, SourceState] = {}


class Checkpoint:
    """The file that holds the newest state."""

    def __init__(self, path: Path | None) -> None:
        """Read what a predecessor left at `path`; with None nothing is read or kept.

        Raises UserError if nothing can be written there.
        """
        self._path = path
        self._warned = False
        self.state = State()
        try:
            if path is not None and path.exists():
                self.state = msgspec.json.decode(path.read_bytes(), type=State)
            self._save(self.state)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {why(error)}; set TMPDIR to another disk") from error

    def begin(self, results: ResultsMark | None = None, recordings: dict[str, str] | None = None) -> None:
        """Note that an output is this run's from now on, empty as it is. Raises OutputFailed."""
        state = msgspec.structs.replace(self.state, begun=True)
        if results is not None:
            state = msgspec.structs.replace(state, results=results)
        if recordings is not None:
            state = msgspec.structs.replace(state, recordings=recordings)
        try:
            self._save(state)
        except OSError as error:
            raise OutputFailed("checkpoint", self._path or "", error) from error

    def keep(self, results: ResultsMark | None, sources: dict[str, SourceState]) -> None:
        """Keep a newer state. If that fails the older one serves: a replacement only takes longer."""
        try:
            self._save(msgspec.structs.replace(self.state, results=results, sources=sources))
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("%s: can't be written: %s; a restart may take longer", self._path, why(error))

    def _save(self, state: State) -> None:
        if self._path is not None:
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(state))
            fresh.replace(self._path)
        self.state = state
