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
from trainer.history import Epoch

DOTS_PER_INCH: Final = 120
TRAINING_COLOUR: Final = "tab:gray"
VALIDATION_COLOUR: Final = "tab:blue"


def plot_curves(history: Sequence[Epoch], best: Epoch, path: Path) -> None:
    """Accuracy and loss by epoch, the `best` epoch marked. Raises UserError if `path` can't be written."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    curves(accuracy, epochs, [epoch.top1 for epoch in history], [epoch.validation_top1 for epoch in history])
    accuracy.set(title="Accuracy", ylabel="top-1")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    curves(loss, epochs, [epoch.loss for epoch in history], [epoch.validation_loss for epoch in history])
    loss.set(title="Loss", ylabel="cross-entropy (nats)")
    mark = f"best epoch {best.epoch}: {best.validation_top1:.1%}"
    accuracy.plot(best.epoch, best.validation_top1, "o", color=VALIDATION_COLOUR, label=mark)
    accuracy.legend(loc="lower right")
    loss.legend(loc="upper right")
    write(figure, path)


def curves(axes: Axes, epochs: list[int], training: list[float], validation: list[float]) -> None:
    """Two lines over the epochs."""
    # A single epoch is a dot: a line of one point would not be seen.
    style = "o-" if len(epochs) == 1 else "-"
    axes.plot(epochs, training, style, color=TRAINING_COLOUR, label="training (augmented, with dropout)")
    axes.plot(epochs, validation, style, color=VALIDATION_COLOUR, label="validation")
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
