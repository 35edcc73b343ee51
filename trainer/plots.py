"""Plots of a training and of an evaluation, as PNG files, drawn without a screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.common.files import replacing
from pipeline.common.labels import EMOTIONS
from trainer.checkpoint import Epoch
from trainer.dataset import Faces
from trainer.metrics import Predictions

DOTS_PER_INCH: Final = 120
COLOURS: Final = {"training": "tab:gray", "fer2013": "tab:blue", "consensus": "tab:orange"}
FACES_PER_ROW: Final = 8
MOST_CONFIDENT: Final = 40
"""Faces in the plot of the most confident mistakes."""


def plot_curves(history: Sequence[Epoch], kept: Epoch, path: Path) -> None:
    """Plot accuracy and loss by epoch, the `kept` one marked. Raises UserError if `path` can't be written."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    plot_curve(accuracy, history, "top1", "training (augmented, with dropout)", "training")
    plot_curve(loss, history, "loss", "training (all outputs)", "training")
    for name, top1, cost in (
        ("fer2013", "validation_top1", "validation_loss"),
        ("consensus", "validation_consensus_top1", "validation_consensus_loss"),
    ):
        if getattr(kept, top1) is None:
            continue
        plot_curve(accuracy, history, top1, f"validation, {name}", name)
        plot_curve(loss, history, cost, f"validation, {name}", name)
        mark = f"epoch {kept.epoch}, kept: {getattr(kept, top1):.1%}"
        accuracy.plot(kept.epoch, getattr(kept, top1), "o", color=COLOURS[name], label=mark)
    accuracy.set(title="Accuracy", ylabel="top-1")
    in_per_cent(accuracy.yaxis)
    accuracy.legend(loc="lower right")
    loss.set(title="Loss", ylabel="cross-entropy (nats)")
    loss.legend(loc="upper right")
    save(figure, path)


def plot_curve(axes: Axes, history: Sequence[Epoch], name: str, label: str, colour: str) -> None:
    """Plot the field `name` over the epochs."""
    style = "o-" if len(history) == 1 else "-"  # a line of one point is invisible
    epochs = [epoch.epoch for epoch in history]
    axes.plot(epochs, [getattr(epoch, name) for epoch in history], style, color=COLOURS[colour], label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def draw(scores: Mapping[str, Any], split: str, folder: Path) -> None:
    """Plot confusion matrix, reliability and risk by coverage of each label set. Raises UserError."""
    for label_set, one in scores.items():
        title = f"{label_set}, {split}: top-1 {one['top1']:.1%}, macro-F1 {one['macro_f1']:.3f}"
        plot_confusion(one, title, plot_path(folder, "confusion", label_set))
        below = f"{label_set}, {split}: uncertain below {one['uncertain_below']:.2f}"
        plot_risk_coverage(one, below, plot_path(folder, "risk", label_set))
        if one["ece"] is not None:
            error = f"calibration error {one['ece']:.3f} of {one['ece_pictures']:,} pictures"
            path = plot_path(folder, "reliability", label_set)
            plot_reliability(one["reliability"], f"{label_set}, {split}: {error}", path)


def plot_risk_coverage(scores: Mapping[str, Any], title: str, path: Path) -> None:
    """Plot the share of wrong answers by the share of pictures that are answered, one point a threshold."""
    points = [point for point in scores["risk_coverage"] if point["risk"] is not None]
    figure = Figure(figsize=(6.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([p["coverage"] for p in points], [p["risk"] for p in points], "o-", markersize=4)
    look: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": 8}
    for point in points:
        if round(100 * point["threshold"]) % 10 == 0 and point["threshold"] >= 0.3:
            place = (point["coverage"], point["risk"])
            axes.annotate(f"{point['threshold']:.1f}", place, (-4, 6), **look)
    axes.set(xlabel="pictures with at least this confidence", ylabel="of them wrong", title=title)
    axes.set(xlim=(0, 1.02), ylim=(0, None))
    axes.grid(alpha=0.3)
    in_per_cent(axes.xaxis, axes.yaxis)
    save(figure, path)


def in_per_cent(*axes: Axis) -> None:
    """Label the `axes`, fractions of 1, in per cent."""
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def plot_path(folder: Path, what: str, label_set: str) -> Path:
    """Return the path of a plot; that of FER2013's labels has no suffix."""
    return folder / (f"{what}.png" if label_set == "fer2013" else f"{what}-{label_set}.png")


def plot_confusion(scores: Mapping[str, Any], title: str, path: Path) -> None:
    """Plot the confusion matrix: each row in per cent of its true emotion, with the number of pictures."""
    pictures = np.array(scores["confusion"])
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
            colour = "white" if share[row, column] > 0.5 else "black"  # black is illegible on dark blue
            text = f"{100 * share[row, column]:.0f}%\n{pictures[row, column]}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true emotion")
    in_per_cent(bar.ax.yaxis)
    save(figure, path)


def plot_reliability(bins: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Plot accuracy by confidence, and below it the number of pictures."""
    filled = [row for row in bins if row["pictures"]]
    figure = Figure(figsize=(6.2, 7), layout="constrained")
    accuracy, pictures = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left, right = [row["above"] for row in filled], [row["accuracy"] for row in filled]
    width = bins[0]["up_to"] - bins[0]["above"]
    look: dict[str, Any] = {"align": "edge", "width": width, "edgecolor": "white"}
    bars: dict[str, Any] = {"yerr": np.transpose([error_bar(row) for row in filled]), "ecolor": "black"}
    accuracy.bar(left, right, color="tab:blue", capsize=2, label="right (95% interval)", **bars, **look)
    accuracy.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="perfect calibration")
    accuracy.set(title=title, ylabel="share of pictures that are right", xlim=(0, 1), ylim=(0, 1))
    accuracy.legend(loc="upper left")
    pictures.bar(left, [row["pictures"] for row in filled], color="tab:gray", **look)
    pictures.set(xlabel="confidence: probability of the predicted emotion", ylabel="pictures")
    in_per_cent(accuracy.yaxis, pictures.xaxis)
    save(figure, path)


def error_bar(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return how far Wilson's interval of a bin's accuracy reaches below and above it."""
    right = round(row["accuracy"] * row["pictures"])
    ends = binomtest(right, row["pictures"]).proportion_ci(0.95, method="wilson")
    # Rounding errors may put the end of an interval on the wrong side by 1e-17.
    return max(row["accuracy"] - ends.low, 0.0), max(ends.high - row["accuracy"], 0.0)


def most_confident(predictions: Predictions) -> NDArray[np.int64]:
    """Return the MOST_CONFIDENT mistakes, highest first, as indices into `predictions`."""
    wrong = np.flatnonzero(~predictions.right)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:MOST_CONFIDENT]


def worst(predictions: Predictions) -> dict[str, NDArray[np.int64]]:
    """Return by emotion a row of mistakes with the least probability for it, as `most_confident` does."""
    found = {}
    for label, emotion in enumerate(EMOTIONS):
        wrong = np.flatnonzero((predictions.labels == label) & ~predictions.right)
        order = np.argsort(predictions.probabilities[wrong, label], kind="stable")
        found[emotion] = wrong[order][:FACES_PER_ROW]
    return found


def list_mistakes(
    predictions: Predictions, faces: Faces, mistakes: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Return `mistakes` as plain JSON: picture, true and predicted emotion, and the probability of either."""
    return [
        {
            "picture": faces.names[predictions.indices[index]],
            "true": EMOTIONS[predictions.labels[index]],
            "true_probability": float(predictions.probabilities[index, predictions.labels[index]]),
            "predicted": EMOTIONS[predictions.predicted[index]],
            "confidence": float(predictions.confidence[index]),
        }
        for index in mistakes
    ]


def draw_mistakes(predictions: Predictions, faces: Faces, split: str, folder: Path) -> None:
    """Plot the faces of the most confident mistakes, and of the worst of each emotion. Raises UserError."""
    confident = most_confident(predictions)
    rows = [confident[start : start + FACES_PER_ROW] for start in range(0, len(confident), FACES_PER_ROW)]
    least = "mistakes with the least probability for the true emotion"
    for what, title, some in (
        ("mistakes", "most confident mistakes", rows),
        ("worst", least, worst(predictions).values()),
    ):
        path = plot_path(folder, what, predictions.label_set)
        filled = [row for row in some if len(row)]
        plot_faces(predictions, faces, filled, f"{predictions.label_set}, {split}: {title}", path)


def plot_faces(
    predictions: Predictions, faces: Faces, rows: Sequence[NDArray[np.int64]], title: str, path: Path
) -> None:
    """Plot rows of faces with the true and the predicted emotion and the probability of either."""
    figure = Figure(figsize=(1.35 * FACES_PER_ROW, 1.72 * max(len(rows), 1) + 0.7), layout="constrained")
    figure.suptitle(title if rows else f"{title}: none")
    grid = figure.subplots(max(len(rows), 1), FACES_PER_ROW, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, places in zip(rows, grid, strict=False):
        for mistake, index, axes in zip(list_mistakes(predictions, faces, row), row, places, strict=False):
            axes.imshow(faces.pixels[predictions.indices[index], :, :, 0], cmap="gray", vmin=0, vmax=255)
            true = f"true: {mistake['true']} {mistake['true_probability']:.1%}"
            axes.set_title(f"{true}\n{mistake['predicted']} {mistake['confidence']:.1%}", fontsize=8)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG. Raises UserError if `path` can't be written."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH, format="png")
