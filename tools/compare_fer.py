"""`python -m tools.compare_fer --fer PYTHON CLIP…`: the pipeline and the PyPI package `fer`, in turn.

PYTHON is the interpreter of an environment made of tools/fer/requirements.txt. `fer` runs in one process with
all defaults (tools/fer/loop.py); the pipeline as `python run.py --display none --results FILE`. Both decode
the same frames, find and classify their faces and write a line for each frame; neither draws. Frames a second
are from the first frame asked for to the last line written. Medians of the runs.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.against import ClipRun, absolute, run_clip, sides
from bench.command import label, probe
from bench.document import rate
from bench.job import LoopRun
from bench.measure import say, whole_passes
from pipeline.common.errors import UserError
from pipeline.config.schema import PipelineSettings
from tools.measuring import make_parser, run_program, table

RUNS: Final = 3
FRAMES: Final = 300
LOOP: Final = Path(__file__).resolve().parent / "fer" / "loop.py"


def run_fer(python: Path, clip: str, frames: int, folder: Path) -> LoopRun:
    """Run `fer` over so many frames. Raises UserError with the last line that it printed if it fails."""
    command = [str(python), str(LOOP), absolute(clip), str(frames), str(folder / "fer.jsonl")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    except OSError as error:
        why = error.strerror
        raise UserError(f"--fer {python}: can't be run: {why}; see tools/fer/requirements.txt") from error
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or ["it printed nothing"]
        raise UserError(f"tools.compare_fer: fer ended with status {done.returncode}: {told[-1]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=LoopRun)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both in turn over all clips and print the medians."""
    (this,) = sides(None, options.set, [])
    found = []
    with tempfile.TemporaryDirectory(prefix="fer-") as name:
        folder = Path(name)
        for clip in options.clips:
            info = probe(PipelineSettings(), clip, options.frames)
            frames = whole_passes(options.frames, info.frames)
            ours: list[ClipRun] = []
            theirs: list[LoopRun] = []
            for number in range(1, options.runs + 1):
                ours.append(run_clip(this, clip, frames, folder))
                theirs.append(run_fer(options.fer, clip, frames, folder))
                rates = f"this {ours[-1].fps:.1f}, fer {theirs[-1].fps:.1f} frames/s"
                say(f"{Path(clip).name}, run {number}: {rates}")
            found.append(describe(label(clip, info), ours, theirs))
    header = ("clip", "faces", "this, frames/s", "faces", "fer, frames/s", "ratio")
    print(table(header, [row(figures) for figures in found]))
    return {"this": this.describe(), "runs": options.runs, "clips": found}


def describe(clip: str, ours: Sequence[ClipRun], theirs: Sequence[LoopRun]) -> dict[str, Any]:
    """Return the medians of the runs over a clip, and their ratio."""
    this, fer = rate(ours), rate(theirs)
    ratio = round(this["fps"] / fer["fps"], 2)
    return {"clip": clip, "frames": ours[0].frames, "this": this, "fer": fer, "ratio": ratio}


def row(figures: dict[str, Any]) -> list[object]:
    """Return a line of the table."""
    this, fer = figures["this"], figures["fer"]
    cells = [cell for side in (this, fer) for cell in (side["faces_per_frame"], side["fps"])]
    return [figures["clip"], *cells, figures["ratio"]]


def main() -> int:
    parser = make_parser("tools.compare_fer", __doc__, RUNS)
    parser.add_argument("clips", metavar="CLIP", nargs="+")
    parser.add_argument("--fer", metavar="PYTHON", type=Path, required=True, help="with fer installed")
    parser.add_argument("--frames", metavar="N", type=int, default=FRAMES, help=f"of each (default {FRAMES})")
    return run_program(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
