"""Plots as PNG files, drawn without a screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.common.files import replacing
from pipeline.common.labels import EMOTIONS
from trainer.data.faces import Faces
from trainer.fitting.checkpoint import Epoch
from trainer.scoring.metrics import Judged

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


# ---- The reliability diagram: how often a model is right, by how sure it says it is.


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


# ---- The pictures that a model gets wrong: which, how sure it was, and what they look like.


COLUMNS: Final = 8
CONFIDENT: Final = 40
"""Faces of the picture of the most confident mistakes."""


def most_confident(judged: Judged, count: int = CONFIDENT) -> NDArray[np.int64]:
    """The `count` mistakes made with the highest probability, highest first, as indices into `judged`."""
    confidence = judged.probabilities.max(axis=1)
    wrong = np.flatnonzero(judged.predicted != judged.labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


def worst(judged: Judged, label: int, count: int = COLUMNS) -> NDArray[np.int64]:
    """The `count` mistakes of one true emotion to which the model gives it the least, as `most_confident`."""
    truth = judged.probabilities[:, label]
    wrong = np.flatnonzero((judged.labels == label) & (judged.predicted != label))
    return wrong[np.argsort(truth[wrong], kind="stable")][:count]


def listed(judged: Judged, faces: Faces, mistakes: NDArray[np.int64]) -> list[dict[str, Any]]:
    """`mistakes` as plain JSON: picture, true and predicted emotion, and the probability of either."""
    return [
        {
            "picture": faces.names[judged.chosen[index]],
            "true": EMOTIONS[judged.labels[index]],
            "true_probability": float(judged.probabilities[index, judged.labels[index]]),
            "predicted": EMOTIONS[judged.predicted[index]],
            "confidence": float(judged.probabilities[index].max()),
        }
        for index in mistakes
    ]


def listed_worst(judged: Judged, faces: Faces) -> dict[str, list[dict[str, Any]]]:
    """The worst mistakes by true emotion, as `listed` has them."""
    return {emotion: listed(judged, faces, worst(judged, label)) for label, emotion in enumerate(EMOTIONS)}


def plot_most_confident(judged: Judged, faces: Faces, title: str, path: Path) -> None:
    """The most confident mistakes as a grid of faces. Raises UserError if `path` can't be written."""
    chosen = most_confident(judged)
    rows = [chosen[start : start + COLUMNS] for start in range(0, len(chosen), COLUMNS)]
    plot_rows(judged, faces, rows, title, path)


def plot_worst(judged: Judged, faces: Faces, title: str, path: Path) -> None:
    """The worst mistakes of each emotion, in a row each. Raises UserError if `path` can't be written."""
    plot_rows(judged, faces, [worst(judged, label) for label in range(len(EMOTIONS))], title, path)


def plot_rows(
    judged: Judged, faces: Faces, rows: Sequence[NDArray[np.int64]], title: str, path: Path
) -> None:
    """Faces with the true emotion, what was said instead and the probability of either, in the given rows."""
    rows = [row for row in rows if len(row)]
    figure = Figure(figsize=(1.35 * COLUMNS, 1.72 * max(len(rows), 1) + 0.7), layout="constrained")
    figure.suptitle(title if rows else f"{title}: none")
    grid = figure.subplots(max(len(rows), 1), COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, places in zip(rows, grid, strict=False):
        for index, axes in zip(row, places, strict=False):
            axes.imshow(faces.pixels[judged.chosen[index], :, :, 0], cmap="gray", vmin=0, vmax=255)
            probabilities, label = judged.probabilities[index], judged.labels[index]
            true = f"true: {EMOTIONS[label]} {probabilities[label]:.1%}"
            said = f"{EMOTIONS[judged.predicted[index]]} {probabilities.max():.1%}"
            axes.set_title(f"{true}\n{said}", fontsize=8)
    write(figure, path)


# ---- All pictures of an evaluation, in one folder.


def draw(scores: Mapping[str, Any], split: str, folder: Path) -> None:
    """Confusion matrix and reliability diagram of each set of labels in `scores`. Raises UserError."""
    for label_set, figures in scores.items():
        about = f"{label_set}, {split}"
        plot_confusion(
            figures,
            f"{about}: top-1 {figures['top1']:.1%}, macro-F1 {figures['macro_f1']:.3f}",
            folder / file_name("confusion", label_set),
        )
        if figures["ece"] is not None:
            plot_reliability(
                figures,
                f"{about}: calibration error {figures['ece']:.3f} of {figures['ece_pictures']:,} pictures",
                folder / file_name("reliability", label_set),
            )


def draw_mistakes(judged: Judged, faces: Faces, split: str, folder: Path) -> None:
    """The most confident mistakes, and the worst of each emotion. Raises UserError."""
    about = f"{judged.label_set}, {split}"
    plot_most_confident(
        judged, faces, f"{about}: most confident mistakes", folder / file_name("mistakes", judged.label_set)
    )
    plot_worst(
        judged,
        faces,
        f"{about}: mistakes with the least probability for the true emotion",
        folder / file_name("worst", judged.label_set),
    )


def file_name(what: str, label_set: str) -> str:
    """The name of a plot: plain for FER2013's labels, the others stand beside it."""
    return f"{what}.png" if label_set == "fer2013" else f"{what}-{label_set}.png"
