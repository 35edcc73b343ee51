"""The figures as one document (`--json`), as tables, and as pictures (`--plots`)."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.measure import Measured

if TYPE_CHECKING:  # matplotlib takes a second to load
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def latency_ms(runs: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return percentiles of frames' latency: medians over the runs of each run's percentiles."""
    rows = np.array([np.percentile(run, (50, 95, 99)) for run in runs])
    p50, p95, p99 = (round(float(value), 2) for value in np.median(rows, axis=0))
    return {"p50": p50, "p95": p95, "p99": p99}


def latency_text(found: Mapping[str, float], fps: float, why: str) -> str:
    """Return percentiles of `latency_ms` in words; why: what set the rate at which they were measured."""
    percentiles = ", ".join(f"{name} {value:.0f} ms" for name, value in found.items())
    return f"latency at {fps:.1f} frames/s ({why}): {percentiles}"


def batch(runs: Iterable[Mapping[int, int]]) -> dict[str, Any]:
    """Return the mean batch and how often each size occurred, over all runs."""
    histogram: Counter[int] = Counter()
    for run in runs:
        histogram.update(run)
    batches = sum(histogram.values())
    faces = sum(size * count for size, count in histogram.items())
    mean = round(faces / batches, 2) if batches else 0.0
    return {"mean": mean, "histogram": {str(size): histogram[size] for size in sorted(histogram)}}


def medians_by_key(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each key over the runs that have it."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: round(median(run[key] for run in runs if key in run), 3) for key in keys}


WIDTH: Final = 120  # where there is no terminal to fit


def show(document: dict[str, Any]) -> None:
    """Print the figures."""
    console = open_console()
    machine, settings = document["machine"], document["settings"]
    model = settings["model"]
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"ONNX Runtime {machine['packages']['onnxruntime']}, OpenCV {machine['packages']['opencv-python']}"
    )
    console.print(
        f"model {model['name']}, labels {model['labels']}, "
        f"{model['multiply_adds'] / 1e6:.1f} million multiply-adds a face; "
        f"detector {settings['detector']}"
    )
    console.print()
    console.print(_rates([document, *document["others"]]))
    console.print(
        "[dim]medians of the runs; in brackets the slowest and the fastest; "
        "t: threads of the plain loop, the faster count[/dim]"
    )
    console.print()
    console.print(_costs(document))
    console.print()
    for line in summary(document):
        console.print(line, soft_wrap=True)


def open_console() -> Console:
    """Return the console that tables are printed on."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def summary(document: dict[str, Any]) -> list[str]:
    """Return latency, batches, balance and efficiency in words."""
    pipeline = document["pipeline"]
    batch = pipeline["batch"]
    return [
        latency_text(pipeline["latency_ms"], pipeline["latency_at_fps"], pipeline["latency_at"]),
        f"faces in a batch: {batch['mean']:.1f} on average; "
        f"frames dropped {pipeline['dropped']}, failed {pipeline['failed']}",
        f"efficiency {100 * document['efficiency']:.0f} %: the share of {document['machine']['cores']} cores "
        "that goes into decoding, detecting, classifying and drawing",
    ]


def _rates(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("frames a second", "faces", "tutorial loop", "plain loop", "pipeline"):
        table.add_column(column, justify="left" if column.startswith("frames") else "right", no_wrap=True)
    table.add_column("× tutorial", justify="right")
    table.add_column("× plain", justify="right")
    for row in rows:
        table.add_row(
            row["scene"],
            f"{row['faces_per_frame']:.1f}",
            rate_cell(row["tutorial_loop"]) if row["tutorial_loop"] else "–",
            f"{rate_cell(row['plain_loop'])} {row['plain_loop']['threads']}t",
            rate_cell(row["pipeline"]),
            f"{row['ratio_to_tutorial']:.1f}" if row["ratio_to_tutorial"] else "–",
            f"{row['ratio_to_plain']:.2f}",
        )
    return table


def rate_cell(found: dict[str, Any]) -> str:
    """Return a rate and its spread for a cell of a table."""
    least, greatest = found["fps_spread"]
    return f"{found['fps']:.1f} [dim]({least:.1f}–{greatest:.1f})[/dim]"


def _costs(document: dict[str, Any]) -> Table:
    """Return the CPU time a frame: in the pipeline by process, and of the work alone."""
    in_pipeline, bare = document["pipeline"]["cpu_ms_per_frame"], document["bare_cpu_ms_per_frame"]
    work = {"capture": "decode", "detect": "detect", "classify": "classify", "display": "draw"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("CPU ms a frame", "in the pipeline", "the work alone"):
        table.add_column(column, justify="left" if column.startswith("CPU") else "right")
    for role in ("capture", "detect", "classify", "display", "broker", "parent"):
        alone = f"{bare[work[role]]:.2f}" if role in work else ""
        table.add_row(role, f"{in_pipeline[role]:.2f}" if role in in_pipeline else "", alone)
    table.add_row("together", f"{sum(in_pipeline.values()):.2f}", f"{sum(bare.values()):.2f}")
    return table


def make_document(
    machine: Mapping[str, Any], settings: Mapping[str, Any], main: Measured, others: Sequence[Measured]
) -> dict[str, Any]:
    """Return all figures: those of `throughput` for the clip that was asked for, with more of its pipeline.

    `others` have their throughput only. `efficiency` is the share of all cores' time that the work alone, one
    process that decodes, detects, classifies and draws, would take at the pipeline's rate; 1 is the most.
    """
    rates = throughput(main)
    bare = medians_by_key([msgspec.structs.asdict(cost) for cost in main.bare])
    bare_cpu_s = sum(bare.values()) / 1000
    return {
        "machine": dict(machine),
        "settings": dict(settings),
        **rates,
        "pipeline": {
            **rates["pipeline"],
            "latency_ms": latency_ms([run.latency_ms for run in main.paced]),
            "latency_at_fps": round(main.pace_fps, 2),
            "latency_at": main.pace_reason,
            "latency_fps_reached": round(median_fps(main.paced), 2),
            "batch": batch(run.batches for run in main.pipeline),
            "cpu_ms_per_frame": medians_by_key([run.cpu_ms_per_frame for run in main.pipeline]),
            "dropped": sum(run.dropped for run in [*main.pipeline, *main.paced]),
            "failed": sum(run.failed for run in [*main.pipeline, *main.paced]),
        },
        "efficiency": round(rates["pipeline"]["fps"] * bare_cpu_s / machine["cores"], 3),
        "bare_cpu_ms_per_frame": bare,
        "others": [throughput(other) for other in others],
    }


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write figures as JSON, for `--json`."""
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def throughput(found: Measured) -> dict[str, Any]:
    """Return the median rates over one scene and their ratios.

    The plain loop's is that of its faster thread count. Without the tutorial's loop, its rate and ratio are
    None."""
    by_threads = {threads: median_fps(runs) for threads, runs in found.plain.items()}
    threads = max(by_threads, key=lambda count: by_threads[count])
    plain, tutorial, fps = rate(found.plain[threads]), None, median_fps(found.pipeline)
    if found.tutorial:
        tutorial = rate(found.tutorial) | {"frames": found.scene.tutorial_frames}
    return {
        "scene": found.scene.label,
        "frames": found.scene.frames,
        "runs": len(found.pipeline),
        "faces_per_frame": plain["faces_per_frame"],
        "pipeline": rate(found.pipeline),
        "tutorial_loop": tutorial,
        "plain_loop": plain
        | {"threads": threads, "fps_by_threads": {str(n): round(fps, 2) for n, fps in by_threads.items()}},
        "ratio_to_tutorial": round(fps / median_fps(found.tutorial), 2) if tutorial else None,
        "ratio_to_plain": round(fps / by_threads[threads], 2),
    }


def rate(runs: Sequence[Any]) -> dict[str, Any]:
    """Return the frames a second of `runs`, of any kind: median, extremes, and each run's.

    With the faces in a frame, if the runs count faces.
    """
    fps = [round(run.fps, 2) for run in runs]
    found = {"fps": round(median_fps(runs), 2), "fps_spread": [min(fps), max(fps)], "fps_runs": fps}
    if not hasattr(runs[0], "faces"):
        return found
    faces = sum(run.faces for run in runs) / sum(run.frames for run in runs)
    return found | {"faces_per_frame": round(faces, 2)}


def median_fps(runs: Sequence[Any]) -> float:
    """Return the median frames a second of runs of any kind."""
    return float(median(run.fps for run in runs))


LINES: Final[dict[str, dict[str, Any]]] = {
    "pipeline": {"label": "pipeline", "color": "#0072b2", "marker": "o"},
    "plain_loop": {"label": "plain loop", "color": "#e69f00", "marker": "s"},
    "tutorial_loop": {"label": "tutorial loop", "color": "#7a7a7a", "marker": "^"},
}
"""Okabe and Ito's colours; the markers tell the lines apart in grey too."""


def plot_crowds(rates: Sequence[dict[str, Any]], faces: Sequence[int], path: Path) -> None:
    """Draw frames a second by faces a frame; error bars reach from the slowest run to the fastest."""
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = _figure(4.4)
    for name, look in LINES.items():
        measured = [row[name] for row in rates if row[name]]
        if measured:  # the tutorial's loop may be left out
            fps = [one["fps"] for one in measured]
            ends = np.abs(np.transpose([one["fps_spread"] for one in measured]) - fps)
            axes.errorbar(faces, fps, yerr=ends, capsize=3, linewidth=2, **look)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(faces, [str(count) for count in faces])
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("faces in the frame (demo, 960×540)")
    axes.set_ylabel("frames a second")
    axes.set_title("Throughput by faces in the frame", loc="left", fontweight="bold")
    axes.legend()
    figure.savefig(path)


def plot_batches(document: dict[str, Any], path: Path) -> None:
    """Draw the sizes of the classifier's batches."""
    batch = document["pipeline"]["batch"]
    sizes = [int(size) for size in batch["histogram"]]
    counts = list(batch["histogram"].values())
    shares = [100 * count / max(1, sum(counts)) for count in counts]
    figure, axes = _figure(3.8)
    axes.bar(sizes, shares, color=LINES["pipeline"]["color"], width=0.8)
    mean = batch["mean"]
    axes.axvline(mean, color=LINES["plain_loop"]["color"], linewidth=2, label=f"mean {mean:.1f}")
    axes.set_xlim(0, max(sizes, default=1) + 1)
    axes.locator_params("x", integer=True)
    axes.set_xlabel("faces in a batch")
    axes.set_ylabel("share of batches, %")
    axes.set_title(f"Batches: {document['settings']['source']}", loc="left", fontweight="bold")
    axes.legend()
    figure.savefig(path)


def _figure(height: float) -> "tuple[Figure, Axes]":
    """Return a new figure, `height` inches high, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes
