"""The reliability diagram: how often a model is right, by how sure it says it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import binomtest

from trainer.scoring.plots import write


def plot_reliability(figures: Mapping[str, Any], title: str, path: Path) -> None:
    """Accuracy by confidence, and pictures by confidence below it, from `figures["reliability"]`.

    Raises UserError if `path` can't be written.
    """
    bins = figures["reliability"]
    filled = [row for row in bins if row["pictures"]]
    width = bins[0]["up_to"] - bins[0]["above"]
    figure = Figure(figsize=(6.2, 7), layout="constrained")
    accuracy, pictures = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    accuracy.bar(
        [row["above"] for row in filled],
        [row["accuracy"] for row in filled],
        width,
        align="edge",
        color="tab:blue",
        edgecolor="white",
        yerr=np.transpose([error_bar(row) for row in filled]),
        ecolor="black",
        capsize=2,
        label="right (95% interval)",
    )
    accuracy.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="right as often as said")
    accuracy.set(title=title, ylabel="share of pictures that are right", xlim=(0, 1), ylim=(0, 1))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracy.legend(loc="upper left")
    pictures.bar(
        [row["above"] for row in filled],
        [row["pictures"] for row in filled],
        width,
        align="edge",
        color="tab:gray",
        edgecolor="white",
    )
    pictures.set(xlabel="confidence: probability of the predicted emotion", ylabel="pictures")
    pictures.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    write(figure, path)


def error_bar(row: Mapping[str, Any]) -> tuple[float, float]:
    """How far Wilson's interval of a bin's accuracy reaches below and above it."""
    right = round(row["accuracy"] * row["pictures"])
    ends = binomtest(right, row["pictures"]).proportion_ci(0.95, method="wilson")
    # Rounding errors may put the end of an interval on the wrong side by 1e-17.
    return max(row["accuracy"] - ends.low, 0.0), max(ends.high - row["accuracy"], 0.0)
