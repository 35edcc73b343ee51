"""What a display process keeps for the one that replaces it: what is written, and the state of the tracks."""

import logging
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.wire.messages import Committed
from stages.display.output_file import Patience, why
from stages.display.tracks import SmoothedTrack, TrackerState

LARGEST_BYTES: Final = 1 << 20
"""Size from which the file is made anew. Mostly it is appended to, which costs the disk less than a new file
for each record."""

log = logging.getLogger(__name__)


class ResultsMark(msgspec.Struct, frozen=True):
    """The end of the results when the checkpoint was made: `sources` covers all records before it."""

    offset: int  # bytes
    identity: tuple[int, int]  # of the file: device and number


class SourceState(msgspec.Struct, frozen=True):
    """What the next records of a source depend on."""

    committed: Committed = Committed()
    tracker: TrackerState = TrackerState()
    smoothed: dict[int, SmoothedTrack] = {}


class State(msgspec.Struct, frozen=True):
    """A checkpoint. Until it says `begun`, this run has not touched the outputs."""

    begun: bool = False
    results: ResultsMark | None = None
    recordings: dict[str, str] = {}  # source -> its first file, once this run has begun it
    sources: dict[str, SourceState] = {}


class Checkpoint:
    """The file with the newest state: a line of JSON for each save, with the sources that have changed."""

    def __init__(self, path: Path | None, patience: Patience) -> None:
        """Read what the process before this one left at `path`. None: nothing is read or kept.

        Raises UserError if it can't be written.
        """
        self._path = path
        self._patience = patience
        self._size = LARGEST_BYTES
        self._warned = False
        self.state = State()
        self.results: ResultsMark | None = None  # for the next `keep`: what is written now
        try:
            if path is not None and path.exists():
                self.state = _read(path)
            self._save(self.state, {})
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {why(error)}; set TMPDIR to another disk") from error

    def begin(self, **outputs: Any) -> None:
        """Note that outputs belong to this run from now on: fields of State. Raises OutputFailed."""
        state = msgspec.structs.replace(self.state, begun=True, **outputs)
        self._patience.until_done("checkpoint", self._path or "", lambda: self._save(state, {}))

    def keep(self, source: str, state: SourceState) -> None:
        """Save a source's newer state. Raises OutputFailed if there are results, which a replacement cuts off
        at their mark; without them it only finds an older state, so that a warning is enough."""
        changed = {source: state}
        newer = msgspec.structs.replace(
            self.state, results=self.results, sources={**self.state.sources, **changed}
        )
        if self.results is not None:
            self._patience.until_done("checkpoint", self._path or "", lambda: self._save(newer, changed))
            return
        try:
            self._save(newer, changed)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("%s: can't be written: %s; a restart may forget tracks", self._path, why(error))

    def _save(self, state: State, changed: dict[str, SourceState]) -> None:
        if self._path is not None:
            size, self._size = self._size, LARGEST_BYTES  # after a failure the file is made anew
            line = msgspec.json.encode(msgspec.structs.replace(state, sources=changed)) + b"\n"
            if size + len(line) < LARGEST_BYTES:
                with self._path.open("ab") as file:
                    file.write(line)
                self._size = size + len(line)
            else:
                line = msgspec.json.encode(state) + b"\n"
                fresh = self._path.with_suffix(".new")
                fresh.write_bytes(line)
                fresh.replace(self._path)
                self._size = len(line)
        self.state = state


def _read(path: Path) -> State:
    """Return the newest state; a last line that is not whole was never acknowledged."""
    state = State()
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                newer = msgspec.json.decode(line, type=State)
                state = msgspec.structs.replace(newer, sources={**state.sources, **newer.sources})
    return state
