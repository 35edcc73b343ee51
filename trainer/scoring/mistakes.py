"""The pictures that a model gets wrong: which, how sure it was, and what they look like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.emotions import EMOTIONS
from trainer.data.faces import Faces
from trainer.scoring.judging import Judged
from trainer.scoring.plots import write

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
