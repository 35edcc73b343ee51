"""The report's plots: inline SVG with the page's colours and fonts, so that they follow its theme."""

import io
import re
from collections.abc import Iterator
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from pipeline.cli.report.summary import (
    SHOWN,
    UNCERTAIN,
    Floats,
    SourceSeries,
    Span,
    TrackSeries,
    clock,
    spans,
)
from pipeline.common.labels import EMOTIONS

# Placeholder colours for matplotlib, which are replaced by the page's variables in the SVG.
COLOURS: Final = {
    name: f"#0a00{number:02x}"
    for number, name in enumerate([*SHOWN, "ink", "grid", "page", "on-light", "on-dark"], start=16)
}
MOST_BINS: Final = 300
"""Columns of an area plot: more would not be visible."""

MOST_STRETCHES: Final = 600
"""Positions in a row of the time line, for the same reason."""

WIDTH_IN: Final = 9.6
POINTS: Final = 72  # an inch
STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "emotions",  # the same ids each time
    "font.size": 9.5,
    "font.family": ["DejaVu Sans"],
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["ink"],
    "xtick.color": COLOURS["grid"],
    "ytick.color": COLOURS["grid"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "hatch.color": COLOURS["grid"],
    "hatch.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def timeline(series: SourceSeries, tracks: list[int], end: tuple[float, float], pictures: bool) -> str:
    """Plot what each track shows over time, a row a track. end: first and last second."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(0.34 * len(tracks) + 0.6)
        for row, track in enumerate(tracks):
            _row(axes, row, series.tracks[track], series.step_s, end)
        axes.set_ylim(len(tracks) - 0.4, -0.6)
        axes.set_yticks(range(len(tracks)), [f"face {track}" for track in tracks])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        _time_axis(axes, end, pictures)
        return _svg(figure, "who was in view, and which emotion each face showed")


def emotions(series: TrackSeries, step_s: float, end: tuple[float, float], pictures: bool) -> str:
    """Plot the probability of each emotion over time, as stacked areas."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(1.7)
        times, values = _binned(series, step_s, end)
        areas = axes.stackplot(times, values.T, colors=[COLOURS[emotion] for emotion in EMOTIONS])
        for area in areas:
            area.set_linewidth(0)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        _time_axis(axes, end, pictures)
        return _svg(figure, "the probability of each emotion over time")


def losses(series: SourceSeries, end: tuple[float, float], pictures: bool) -> str:
    """Plot when frames were dropped or failed, a row a reason."""
    with mpl.rc_context(STYLE):
        names = sorted(series.lost)
        figure, axes = _figure(0.5 * len(names) + 0.6)
        edges = np.linspace(*end, 121)
        for row, name in enumerate(names):
            counts, _ = np.histogram(np.asarray(series.lost[name]), edges)
            heights = 0.8 * counts / max(1, counts.max())
            axes.bar(
                edges[:-1], heights, np.diff(edges), len(names) - 1 - row, align="edge", color=COLOURS["ink"]
            )
        labels = [f"{status}: {reason}" for status, reason in names]
        axes.set_yticks([len(names) - 1 - row + 0.4 for row in range(len(names))], labels)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(0, len(names))
        _time_axis(axes, end, pictures)
        return _svg(figure, "when frames were dropped or failed")


def _figure(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _time_axis(axes: Axes, end: tuple[float, float], pictures: bool) -> None:
    axes.set_xlim(*end)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 1.5, 2, 3, 5, 6, 10], integer=pictures))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value + pictures, pictures)))
    axes.grid(axis="x", color=COLOURS["grid"], linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    if pictures:
        axes.set_xlabel("picture")


def _row(axes: Axes, row: int, series: TrackSeries, step_s: float, end: tuple[float, float]) -> None:
    """Draw a track's row; wide stretches are labelled with their emotion."""
    readable_s = 0.075 * (end[1] - end[0])
    found = stretches(series, step_s, (end[1] - end[0]) / MOST_STRETCHES)
    for shown in {shown for shown, _, _ in found}:
        unsure = SHOWN[shown] == UNCERTAIN
        axes.broken_barh(
            [(start_s, stop_s - start_s) for which, start_s, stop_s in found if which == shown],
            (row - 0.36, 0.72),
            facecolors="none" if unsure else COLOURS[SHOWN[shown]],
            edgecolors=COLOURS["grid"] if unsure else COLOURS["page"],
            linewidth=0.5,
            hatch="////" if unsure else None,
        )
    for shown, start_s, stop_s in found:
        if stop_s - start_s > readable_s:
            name = SHOWN[shown]
            colour = COLOURS["ink" if name == UNCERTAIN else "on-dark" if name == "sad" else "on-light"]
            middle_s = (start_s + stop_s) / 2
            axes.text(middle_s, row, name, ha="center", va="center", fontsize=8.5, color=colour)


def stretches(series: TrackSeries, step_s: float, least_s: float = 0.0) -> list[tuple[int, float, float]]:
    """Return stretches in which a track shows one thing: its index in SHOWN, start and end in s.

    Within `least_s` the most frequent one counts.
    """
    found: list[tuple[int, float, float]] = []
    for inside, span in _parts(series, step_s):
        times, bins = _bins(series.times[inside], max(step_s / 2, least_s))
        counts = np.zeros((len(times), len(SHOWN)), int)
        np.add.at(counts, (bins, series.shown[inside]), 1)
        shown = counts.argmax(axis=1)
        changes = [0, *(np.flatnonzero(np.diff(shown)) + 1).tolist()]
        ends = [*times[changes[1:]].tolist(), span.end_s]
        found += [(int(shown[at]), float(times[at]), stop) for at, stop in zip(changes, ends, strict=True)]
    return found


def _binned(series: TrackSeries, step_s: float, end: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return times (n,) and probabilities (n, 7), averaged where frames lie too close, NaN in gaps."""
    times: list[Floats] = []
    rows: list[Floats] = []
    for inside, span in _parts(series, step_s):
        starts, bins = _bins(series.times[inside], max(step_s / 2, (end[1] - end[0]) / MOST_BINS))
        sums = np.zeros((len(starts), len(EMOTIONS)))
        np.add.at(sums, bins, series.probabilities[inside])
        totals = sums.sum(axis=1, keepdims=True)  # the number of frames, except for rounding
        shares = sums / np.where(totals > 0, totals, 1.0)
        # The last frame has a duration too; after it comes a gap.
        times.append(np.array([*starts, span.end_s, span.end_s]))
        rows.append(np.vstack([shares, shares[-1], np.full(len(EMOTIONS), np.nan)]))
    return np.concatenate(times), np.concatenate(rows)


def _parts(series: TrackSeries, step_s: float) -> Iterator[tuple[slice, Span]]:
    """Yield the frames of each span in which a track is in view."""
    for span in spans(series.times, step_s):
        first, last = np.searchsorted(series.times, [span.start_s - 1e-3, span.end_s])
        yield slice(first, last), span


def _bins(times: Floats, width_s: float) -> tuple[Floats, NDArray[np.intp]]:
    """Return the first time of each bin with frames, and the bin of each frame."""
    places = np.floor((times - times[0]) / width_s + 1e-6)
    _, firsts, bins = np.unique(places, return_index=True, return_inverse=True)
    return times[firsts], bins


def _svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element with the page's colours and fonts."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace("font-family: 'DejaVu Sans'; ", "")
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    height = figure.get_figheight() * POINTS
    head = f'<svg viewBox="0 0 {WIDTH_IN * POINTS:g} {height:g}" role="img" aria-label="{title}">'
    return re.sub(r"<svg[^>]*>", head, text, count=1)
