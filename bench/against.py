"""`python run.py bench --against DIR`: this pipeline and another checkout's, in turn, over the same clips.

Both are run as a user runs them, `python run.py --display none --results FILE`: every frame is decoded,
searched, classified, tracked and written down, and nothing is drawn. In one more scene both draw as well, and
record an annotated video. Frames a second are those of each run's own summary: from the first frame asked for
to the last record written, without the start. The latency is that of the records.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from bench.checkout import Checkout, ClipRun, run_clip, sides
from bench.command import (
    FRAMES,
    SIDE_FRAMES,
    SIDE_RUNS,
    Options,
    check_outputs,
    check_source,
    label,
    probe,
    say,
    scaled,
    start,
    terminable,
)
from bench.document import rate, write_document
from bench.figures import latency_ms, pace_for, spread
from bench.scene import whole_passes
from bench.table import open_console
from bench.table import rate as rate_cell
from pipeline.settings import PipelineSettings


class Against(NamedTuple):
    """The other checkout, and the settings of both as the user gave them: table.key=value."""

    folder: Path
    here: list[str]
    there: list[str]


class Duel(NamedTuple):
    """A scene and the runs of both over it, in the order in which they were made."""

    label: str
    frames: int
    this: list[ClipRun]
    other: list[ClipRun]


class Paced(NamedTuple):
    """Runs at a pace that both can keep."""

    fps: float
    reason: str
    duel: Duel


def run_against(settings: PipelineSettings, options: Options, against: Against) -> int:
    """Measure, print, and write what is asked for; return the exit status. Raises UserError."""
    source = options.source
    check_source(source)
    pair = sides(against.folder, against.here, against.there)
    check_outputs(options.json, None)
    machine = start()
    with terminable(), tempfile.TemporaryDirectory(prefix="emotions-bench-") as name:
        folder = Path(name)
        clip = probe(settings, source, options.frames or FRAMES)
        frames = whole_passes(options.frames or FRAMES, clip.frames)
        scene, few = label(source, clip), min(options.runs, SIDE_RUNS)
        main, paced = _with_latency(pair, Duel(scene, frames, [], []), source, options.runs, folder)
        others = [_take_turns(pair, Duel("drawn and recorded", frames, [], []), source, few, folder, True)]
        if large := scaled(settings, source, clip, min(frames, SIDE_FRAMES), folder):
            path, info = large
            duel = Duel("the same at 1920×1080", info.frames, [], [])
            others.append(_take_turns(pair, duel, path, few, folder))
    document = make_document(machine, source, pair, main, paced, others)
    show(document)
    if options.json is not None:
        write_document(options.json, document)
    return 0


def _take_turns(
    pair: list[Checkout], duel: Duel, source: str, runs: int, folder: Path, record: bool = False
) -> Duel:
    for _ in range(runs):
        for checkout, found in zip(pair, (duel.this, duel.other), strict=True):
            found.append(run_clip(checkout, source, duel.frames, folder, record=record))
        _say_last(pair, duel)
    return duel


def _with_latency(
    pair: list[Checkout], duel: Duel, source: str, runs: int, folder: Path
) -> tuple[Duel, Paced]:
    """Run both in turn as fast as they go and at a pace; the slower one of the first runs sets the pace."""
    at_pace = Duel(duel.label, duel.frames, [], [])
    fps, reason = 0.0, ""
    for number in range(runs):
        _take_turns(pair, duel, source, 1, folder)
        if number == 0:
            fps, reason = pace_for(min(duel.this[0].fps, duel.other[0].fps))
        for checkout, found in zip(pair, (at_pace.this, at_pace.other), strict=True):
            found.append(run_clip(checkout, source, duel.frames, folder, pace_fps=fps))
    return duel, Paced(fps, reason, at_pace)


def _say_last(pair: list[Checkout], duel: Duel) -> None:
    this, other = (f"{found[-1].fps:.1f}" for found in (duel.this, duel.other))
    say(f"{duel.label}, run {len(duel.other)}: {pair[0].name} {this}, {pair[1].name} {other} frames/s")


def make_document(
    machine: dict[str, Any],
    source: str,
    pair: list[Checkout],
    main: Duel,
    paced: Paced,
    others: list[Duel],
) -> dict[str, Any]:
    """Return all figures: medians, and the ratio of this one's to the other's."""
    this, other = (
        latency_ms([run.latency_ms for run in runs]) for runs in (paced.duel.this, paced.duel.other)
    )
    return {
        "machine": machine,
        "source": Path(source).name,
        "this": pair[0].describe(),
        "other": pair[1].describe(),
        "scenes": [_throughput(duel) for duel in (main, *others)],
        "latency_ms": {"this": this, "other": other},
        "latency_at_fps": round(paced.fps, 2),
        "latency_at": paced.reason,
    }


def _throughput(duel: Duel) -> dict[str, Any]:
    this, other = (spread(run.fps for run in runs).median for runs in (duel.this, duel.other))
    return {
        "scene": duel.label,
        "frames": duel.frames,
        "runs": len(duel.this),
        "this": _side(duel.this),
        "other": _side(duel.other),
        "ratio": round(this / other, 2),
    }


def _side(runs: list[ClipRun]) -> dict[str, Any]:
    faces = sum(run.faces for run in runs) / sum(run.frames for run in runs)
    return rate([run.fps for run in runs]) | {"faces_per_frame": round(faces, 2)}


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
            f"{name}: latency at {document['latency_at_fps']:.1f} frames/s ({document['latency_at']}): "
            f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, p99 {latency['p99']:.0f} ms",
            soft_wrap=True,
        )
