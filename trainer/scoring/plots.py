"""Plots as PNG files, drawn without a screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.emotions import EMOTIONS
from trainer.files import replacing
from trainer.fitting.history import Epoch

DOTS_PER_INCH: Final = 120
COLOURS: Final = {"training": "tab:gray", "fer2013": "tab:blue", "consensus": "tab:orange"}


def plot_curves(history: Sequence[Epoch], kept: Epoch, path: Path) -> None:
    """Accuracy and loss by epoch, the `kept` epoch marked. Raises UserError if `path` can't be written."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    curve(accuracy, history, "top1", "training (augmented, with dropout)", "training")
    curve(loss, history, "loss", "training (all outputs)", "training")
    for name, top1, cost in (
        ("fer2013", "validation_top1", "validation_loss"),
        ("consensus", "validation_consensus_top1", "validation_consensus_loss"),
    ):
        if getattr(kept, top1) is None:
            continue
        curve(accuracy, history, top1, f"validation, {name}", name)
        curve(loss, history, cost, f"validation, {name}", name)
        mark = f"epoch {kept.epoch}, kept: {getattr(kept, top1):.1%}"
        accuracy.plot(kept.epoch, getattr(kept, top1), "o", color=COLOURS[name], label=mark)
    accuracy.set(title="Accuracy", ylabel="top-1")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracy.legend(loc="lower right")
    loss.set(title="Loss", ylabel="cross-entropy (nats)")
    loss.legend(loc="upper right")
    write(figure, path)


def curve(axes: Axes, history: Sequence[Epoch], name: str, label: str, colour: str) -> None:
    """One line over the epochs, of the field `name`."""
    # A single epoch is a dot: a line of one point would not be seen.
    style = "o-" if len(history) == 1 else "-"
    epochs = [epoch.epoch for epoch in history]
    axes.plot(epochs, [getattr(epoch, name) for epoch in history], style, color=COLOURS[colour], label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def plot_confusion(figures: dict[str, Any], title: str, path: Path) -> None:
    """The confusion matrix of `figures`: each row in per cent of its true emotion, with the pictures below.

    Raises UserError if `path` can't be written.
    """
    pictures = np.array(figures["confusion"])
    share = pictures / np.maximum(pictures.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7.2, 5.9), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    places = range(len(EMOTIONS))
    axes.set_xticks(places, EMOTIONS, rotation=30, ha="right")
    axes.set_yticks(places, [f"{e} ({pictures[i].sum()})" for i, e in enumerate(EMOTIONS)])
    axes.set(xlabel="predicted", ylabel="true (pictures)", title=title)
    for row in places:
        for column in places:
            # Black on dark blue can't be read.
            colour = "white" if share[row, column] > 0.5 else "black"
            text = f"{100 * share[row, column]:.0f}%\n{pictures[row, column]}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true emotion")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    write(figure, path)


def write(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH, format="png")
