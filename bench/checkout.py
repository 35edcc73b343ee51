"""Runs the pipeline of a checkout, this one or one of another commit, by its command line alone.

Relied on are the options --source, --display, --results, --record and --set of `python run.py`, the keys
capture.repeat, capture.max_frames and capture.pace_fps, the keys of a record, and the summary's line
`N frames in S s: F frames/s`.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import msgspec

from bench.job import ROOT
from pipeline.errors import UserError

END_S: Final = 30.0
"""Longer than a run may take to end after a signal."""

LOOK_S: Final = 0.005
"""Between two looks at a run that is waited for: what a moment is known to."""

_RATE: Final = re.compile(r"^\d+ frames in [\d.]+ s: ([\d.]+) frames/s", re.MULTILINE)


class Checkout(NamedTuple):
    """A folder that holds the program, and how it is run there."""

    name: str  # in tables and errors
    folder: Path
    python: Path
    settings: tuple[str, ...] = ()  # table.key=value, for this checkout alone

    @property
    def version(self) -> str:
        """Its commit, with `-dirty` if files differ from it; `no commit` if git knows of none."""
        command = ["git", "-C", str(self.folder), "describe", "--always", "--dirty", "--exclude=*"]
        with contextlib.suppress(FileNotFoundError):  # no git
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            return said.strip() or "no commit"
        return "no commit"

    def describe(self) -> dict[str, object]:
        """Return what a document says of it."""
        return {"name": self.name, "commit": self.version, "settings": list(self.settings)}


class Record(msgspec.Struct):
    """What is read of a record."""

    source: str
    time_s: float
    status: str
    latency_ms: float
    faces: list[msgspec.Raw]
    reason: str = ""


class ClipRun(NamedTuple):
    """A run over a clip, as its checkout tells it."""

    fps: float  # from the first frame asked for to the last record written
    faces: int
    frames: int
    latency_ms: list[float]  # of each frame, captured to written


def sides(against: Path | None, here: Sequence[str], there: Sequence[str]) -> list[Checkout]:
    """Return this checkout, and the one in the folder `against` if there is one.

    `here` and `there` are the settings of each. The other one runs with its own .venv, else with this Python.
    Raises UserError if the folder does not hold the program.
    """
    found = [Checkout("this", ROOT, Path(sys.executable), tuple(here))]
    if against is None:
        return found
    folder = against.absolute()
    if not (folder / "run.py").is_file():
        raise UserError(f"--against {against}: expected a checkout of this program, found no run.py in it")
    python = folder / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    own = python if python.is_file() else Path(sys.executable)
    return [*found, Checkout(folder.name, folder, own, tuple(there))]


def run_clip(
    checkout: Checkout,
    source: str,
    frames: int,
    folder: Path,
    *,
    pace_fps: float = 0.0,
    record: bool = False,
) -> ClipRun:
    """Run the pipeline over so many frames of a clip, shown nowhere, results and recording into `folder`.

    `pace_fps` 0: as fast as it goes. `record`: draw the faces and write an annotated video as well. Raises
    UserError if the run does not complete with every frame ok.
    """
    results = folder / "results.jsonl"
    results.unlink(missing_ok=True)
    words = ["--source", absolute(source), "--results", str(results)]
    words += ["--set", "capture.repeat=0", "--set", f"capture.max_frames={frames}"]
    words += ["--set", f"capture.pace_fps={pace_fps}"]
    if record:
        video = folder / "annotated.mkv"
        video.unlink(missing_ok=True)
        words += ["--record", str(video)]
    with Run(checkout, words) as run:
        said = run.wait()
    rate = _RATE.search(said)
    if rate is None:
        raise UserError(f"bench: {checkout.name}: expected 'N frames in S s: F frames/s', found {said!r}")
    found = read_records(results)
    if [record.status for record in found] != ["ok"] * frames:
        raise UserError(f"bench: {checkout.name}: expected {frames} frames, all ok; see its records")
    faces = sum(len(record.faces) for record in found)
    return ClipRun(float(rate[1]), faces, frames, [record.latency_ms for record in found])


def absolute(source: str) -> str:
    """Return a source as it is named from any folder."""
    return str(Path(source).absolute()) if Path(source).exists() else source


def read_records(path: Path) -> list[Record]:
    """Return the records of a .jsonl file; a line that is still being written is left out."""
    lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
    return [msgspec.json.decode(line, type=Record) for line in lines]


class Run:
    """A run that is under way: use as a context manager, which ends it if it has not ended by itself."""

    def __init__(self, checkout: Checkout, words: Sequence[str]) -> None:
        """Start it, in the checkout's folder, with `words` after its own settings."""
        self._name = checkout.name
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        own = [word for setting in checkout.settings for word in ("--set", setting)]
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(
            [str(checkout.python), "run.py", "--display", "none", *own, *words],
            cwd=checkout.folder,  # and nowhere else: its children would find this checkout's code
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the run
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> str:
        """Wait for the end of a run that ends by itself; return its summary. Raises UserError if it fails."""
        self._process.wait()
        return self._ended(0)

    def until(self, what: Callable[[], bool], limit_s: float) -> None:
        """Wait until `what` is true. Raises UserError if the run ends or `limit_s` is over before."""
        while not what():
            if self._process.poll() is not None:
                raise UserError(self._failed("ended too early"))
            if time.monotonic() - self.started_s > limit_s:
                raise UserError(self._failed(f"not so far within {limit_s:.0f} s"))
            time.sleep(LOOK_S)

    def go_on(self, seconds: float) -> None:
        """Let it run for so long. Raises UserError if it ends before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            raise UserError(self._failed("ended too early"))

    def interrupt(self) -> str:
        """End it as Ctrl-C does; return its summary. Raises UserError if it does not end so."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise UserError(self._failed(f"did not end within {END_S:.0f} s")) from None
        return self._ended(128 + signal.SIGINT)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stdout.close()
        self._stderr.close()

    def _ended(self, expected: int) -> str:
        if self._process.returncode != expected:
            raise UserError(self._failed(f"ended with status {self._process.returncode}"))
        self._stdout.seek(0)
        return self._stdout.read().decode(errors="replace")

    def _failed(self, what: str) -> str:
        """One line: which run, what it did, and the last error that it told."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        told = [line for line in lines if "error: " in line] or lines or ["it printed nothing"]
        return f"bench: the pipeline of {self._name}: {what}: {told[-1].removeprefix('error: ')}"
