"""`python run.py bench --against DIR`: this pipeline and another checkout's take turns over the same clips.

Both run as `python run.py --display none --results FILE`, which draws nothing; in one more scene they also
record an annotated video. Frames a second are from each run's own summary: from the first frame asked for to
the last record written, without the start. The latency is that of the records."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
from rich.table import Table

from bench.command import (
    SIDE_FRAMES,
    SIDE_RUNS,
    check_outputs,
    check_source,
    label,
    probe,
    scaled,
    start,
    terminable,
)
from bench.document import latency_ms, latency_text, median_fps, open_console, rate, rate_cell, write_document
from bench.measure import pace_for, say, whole_passes
from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.common.progress import progress
from pipeline.config.schema import PipelineSettings

END_S: Final = 30.0
"""Longer than a run may take to end after a signal."""

_RATE: Final = re.compile(r"^\d+ frames in [\d.]+ s: ([\d.]+) frames/s", re.MULTILINE)


class Checkout(NamedTuple):
    """A folder with the program, and how it is run there."""

    name: str  # in tables and errors
    folder: Path
    python: Path
    settings: tuple[str, ...] = ()  # table.key=value, for this checkout alone

    @property
    def version(self) -> str:
        """Its commit, with `-dirty` if files differ from it; `no commit` without one."""
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
    """The figures of a run over a clip."""

    fps: float  # from the first frame asked for to the last record written
    faces: int
    frames: int
    latency_ms: list[float]  # of each frame, captured to written


def sides(against: Path | None, here: Sequence[str], there: Sequence[str]) -> list[Checkout]:
    """Return this checkout, and the one in the folder `against` if there is one.

    `here` and `there` are the settings of each. The other one runs with its own .venv, else with this Python.
    Raises UserError if there is no program in the folder.
    """
    found = [Checkout("this", PROJECT, Path(sys.executable), tuple(here))]
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
    """Run the pipeline over so many frames of a clip, without a display; it writes into `folder`.

    `pace_fps` 0: as fast as it goes. `record`: an annotated video too. Raises UserError unless every frame is
    ok."""
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
    """Return the name of a source that is valid in any folder."""
    return str(Path(source).absolute()) if Path(source).exists() else source


def read_records(path: Path) -> list[Record]:
    """Return the records of a .jsonl file; a line that is still being written is left out."""
    lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
    return [msgspec.json.decode(line, type=Record) for line in lines]


class Run:
    """A run that is under way; a context manager, which ends it if it has not ended by itself."""

    def __init__(self, checkout: Checkout, words: Sequence[str]) -> None:
        """Start it, in the checkout's folder, with `words` after its own settings."""
        self._name = checkout.name
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        own = [word for setting in checkout.settings for word in ("--set", setting)]
        self.process = subprocess.Popen(
            [str(checkout.python), "run.py", "--display", "none", *own, *words],
            cwd=checkout.folder,  # elsewhere its children would find this checkout's code
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the run
        )

    def wait(self, expected: int = 0) -> str:
        """Wait for its end; return its summary. Raises UserError unless its status is `expected`."""
        if self.process.wait() != expected:
            raise UserError(self.failed(f"ended with status {self.process.returncode}"))
        self._stdout.seek(0)
        return self._stdout.read().decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._stdout.close()
        self._stderr.close()

    def failed(self, what: str) -> str:
        """Return one line: which run failed, how, and its last error."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        told = [line for line in lines if "error: " in line] or lines or ["it printed nothing"]
        return f"bench: the pipeline of {self._name}: {what}: {told[-1].removeprefix('error: ')}"


@dataclass
class Duel:
    """A scene and the runs of both over it, in the order in which they were made."""

    label: str
    source: str
    frames: int
    record: bool = False  # whether the faces are drawn and recorded
    pace_fps: float = 0.0  # 0: as fast as it goes
    this: list[ClipRun] = field(default_factory=list)
    other: list[ClipRun] = field(default_factory=list)

    def take_turns(
        self, pair: list[Checkout], folder: Path, advance: Callable[[int], None], rounds: int = 1
    ) -> None:
        """Run each once a round, and print its rates."""
        for _ in range(rounds):
            for checkout, found in zip(pair, (self.this, self.other), strict=True):
                pace_fps, record = self.pace_fps, self.record
                found.append(
                    run_clip(checkout, self.source, self.frames, folder, pace_fps=pace_fps, record=record)
                )
                advance(1)
            this, other = (f"{found[-1].fps:.1f}" for found in (self.this, self.other))
            rates = f"{pair[0].name} {this}, {pair[1].name} {other} frames/s"
            say(f"{self.label}, run {len(self.other)}: {rates}")


def run_against(settings: PipelineSettings, options: Namespace, pair: list[Checkout]) -> int:
    """Measure this checkout and the other; print, and write what is asked for. Returns the exit status.

    Raises UserError.
    """
    source = options.source
    check_source(source)
    check_outputs(options.json, None)
    machine = start()
    with terminable(), tempfile.TemporaryDirectory(prefix="emotions-bench-") as name:
        folder = Path(name)
        clip = probe(settings, source, options.frames)
        frames = whole_passes(options.frames, clip.frames)
        few = min(options.runs, SIDE_RUNS)
        main = Duel(label(source, clip), source, frames)
        paced = Duel(f"{main.label}, at a pace", source, frames)
        others = [Duel("drawn and recorded", source, frames, record=True)]
        if large := scaled(settings, source, clip, min(frames, SIDE_FRAMES), folder):
            others.append(Duel("the same at 1920×1080", large[0], large[1].frames))
        with progress("runs", 2 * (2 * options.runs + len(others) * few)) as advance:
            for number in range(options.runs):
                main.take_turns(pair, folder, advance)
                if number == 0:  # the slower one sets the pace
                    paced.pace_fps, reason = pace_for(min(main.this[0].fps, main.other[0].fps))
                paced.take_turns(pair, folder, advance)
            for duel in others:
                duel.take_turns(pair, folder, advance, few)
    document = {
        "machine": machine,
        "source": Path(source).name,
        "this": pair[0].describe(),
        "other": pair[1].describe(),
        "scenes": [_throughput(duel) for duel in (main, *others)],
        "latency_ms": {
            "this": latency_ms([run.latency_ms for run in paced.this]),
            "other": latency_ms([run.latency_ms for run in paced.other]),
        },
        "latency_at_fps": round(paced.pace_fps, 2),
        "latency_at": reason,
    }
    show(document)
    if options.json is not None:
        write_document(options.json, document)
    return 0


def _throughput(duel: Duel) -> dict[str, Any]:
    return {
        "scene": duel.label,
        "frames": duel.frames,
        "runs": len(duel.this),
        "this": rate(duel.this),
        "other": rate(duel.other),
        "ratio": round(median_fps(duel.this) / median_fps(duel.other), 2),
    }


def show(document: dict[str, Any]) -> None:
    """Print the figures as a table."""
    this, other = (f"{document[side]['name']} ({document[side]['commit']})" for side in ("this", "other"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("frames a second", no_wrap=True)
    for column in ("faces", this, "faces", other, "ratio"):
        table.add_column(column, justify="right")
    for scene in document["scenes"]:
        cells = [
            cell
            for side in (scene["this"], scene["other"])
            for cell in (f"{side['faces_per_frame']:.1f}", rate_cell(side))
        ]
        table.add_row(scene["scene"], *cells, f"{scene['ratio']:.2f}")
    console = open_console()
    console.print(table)
    console.print("[dim]medians of the runs; in brackets the slowest and the fastest[/dim]\n")
    for name, latency in zip((this, other), document["latency_ms"].values(), strict=True):
        console.print(
            f"{name}: {latency_text(latency, document['latency_at_fps'], document['latency_at'])}",
            soft_wrap=True,
        )
