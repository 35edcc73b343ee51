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
    """Where the results end with the records that `sources` covers. The last one may not be written yet."""

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

    def __init__(self, path: Path | None, patience: Patience, results: Path | None = None) -> None:
        """Read what the process before this one left at `path`. None: nothing is read or kept.

        If the last record is not whole in the file `results`, the state is that before it. Raises UserError
        if `path` can't be written.
        """
        self._path = path
        self._patience = patience
        self._size = LARGEST_BYTES
        self._warned = False
        self.state = State()
        self.results: ResultsMark | None = None  # for the next `keep`: their end with the next record
        try:
            if path is not None and path.exists():
                self.state = _read(path, results)
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
                lines = msgspec.json.encode(self.state) + b"\n" + msgspec.json.encode(state) + b"\n"
                fresh = self._path.with_suffix(".new")
                fresh.write_bytes(lines)
                fresh.replace(self._path)
                self._size = len(lines)
        self.state = state


def _read(path: Path, results: Path | None) -> State:
    """Return the newest state whose records are whole in `results`. Part of a line at the end is ignored."""
    before, state = State(), State()
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                newer = msgspec.json.decode(line, type=State)
                before = state
                state = msgspec.structs.replace(newer, sources={**state.sources, **newer.sources})
    if state.results is None:
        return state
    written = results.stat().st_size if results is not None and results.exists() else 0
    return state if state.results.offset <= written else before
