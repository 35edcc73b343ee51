"""The figures as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

mpl.use("Agg")

NAMES: Final = {"pipeline": "pipeline", "plain_loop": "plain loop", "tutorial_loop": "tutorial loop"}
COLOURS: Final = {"pipeline": "#0072b2", "plain_loop": "#e69f00", "tutorial_loop": "#7a7a7a"}
MARKERS: Final = {"pipeline": "o", "plain_loop": "s", "tutorial_loop": "^"}
"""Okabe and Ito's colours, with shapes of their own: they are told apart in grey too."""


def plot_crowds(rates: Sequence[dict[str, Any]], faces: Sequence[int], path: Path) -> None:
    """Draw frames a second by faces a frame for the three; bars reach from the slowest run to the fastest."""
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name in _drawn(rates):
        _draw_line(axes, name, rates, faces)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(faces, [str(count) for count in faces])
    axes.set_xlim(faces[0] * 0.85, faces[-1] * 2.1)
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(y=0.12)
    axes.set_xlabel("faces in the frame (demo, 960×540)")
    axes.set_ylabel("frames a second")
    axes.set_title("Throughput by faces in the frame", loc="left", fontweight="bold")
    _tidy(axes)
    figure.savefig(path)


def _drawn(rates: Sequence[dict[str, Any]]) -> list[str]:
    """Return those that were measured: the tutorial's loop may have been left out."""
    return [name for name in NAMES if rates[0][name]]


def _draw_line(axes: Axes, name: str, rates: Sequence[dict[str, Any]], faces: Sequence[int]) -> None:
    """Draw one contestant, each point with its value and the last with its name."""
    fps = [row[name]["fps"] for row in rates]
    low = [row[name]["fps"] - row[name]["fps_spread"][0] for row in rates]
    high = [row[name]["fps_spread"][1] - row[name]["fps"] for row in rates]
    colour, marker = COLOURS[name], MARKERS[name]
    axes.errorbar(faces, fps, yerr=(low, high), color=colour, marker=marker, capsize=3, linewidth=2)
    # The fastest's texts stand above its line, the others' below: lines that are close leave room so.
    first = [fps[n] == max(row[other]["fps"] for other in _drawn(rates)) for n, row in enumerate(rates)]
    for count, value, above in zip(faces, fps, first, strict=True):
        text = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
        _write(axes, text, (count, value), (0, 9), above, colour, ha="center", fontsize=8)
    _write(axes, NAMES[name], (faces[-1], fps[-1]), (12, 2), first[-1], colour, fontweight="bold")


def _write(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    away: tuple[float, float],
    above: bool,
    colour: str,
    **how: Any,
) -> None:
    """Write beside a point, `away` from it, points, upwards or downwards."""
    offset, align = (away, "bottom") if above else ((away[0], -away[1]), "top")
    axes.annotate(text, at, offset, textcoords="offset points", va=align, color=colour, **how)


def plot_batches(document: dict[str, Any], path: Path) -> None:
    """Draw how many faces the classifier was given at once."""
    batch = document["pipeline"]["batch"]
    sizes = [int(size) for size in batch["histogram"]]
    counts = list(batch["histogram"].values())
    shares = [100 * count / max(1, sum(counts)) for count in counts]
    figure = Figure(figsize=(7.2, 3.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.bar(sizes, shares, color=COLOURS["pipeline"], width=0.8)
    if sizes:
        axes.axvline(batch["mean"], color=COLOURS["plain_loop"], linewidth=2)
        axes.annotate(
            f"mean {batch['mean']:.1f}", (batch["mean"], 1), (6, -4), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=COLOURS["plain_loop"], va="top", fontweight="bold",
        )  # fmt: skip
        axes.set_xlim(0, max(sizes) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("faces in a batch")
    axes.set_ylabel("share of batches, %")
    axes.set_title(f"Batches: {document['settings']['source']}", loc="left", fontweight="bold")
    _tidy(axes)
    figure.savefig(path)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
