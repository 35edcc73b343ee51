"""Whether a model's confidence can be believed: temperature, reliability, expected calibration error.

After Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599), but for how the
temperature is found: Clarté et al., Expectation consistency for calibration of neural networks, UAI 2023
(arXiv:2303.02644).
"""

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HALVES_SEED: Final = 2013
"""Of which half of the validation pictures a temperature is fitted on. Fixed, and not a training's seed."""

BINS: Final = 15
"""Of equal width, as in the paper."""

TEMPERATURES: Final = (0.05, 20.0)
"""Where a temperature is looked for: far beyond what networks need."""


def halves(names: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks (n,) of the pictures `names`: those to fit a temperature on, those to measure it on.

    A picture's half follows from its file name alone, so that it is the same in any selection of pictures.
    """
    fitting = np.array([in_fitting_half(PurePosixPath(name).name) for name in names], np.bool_)
    return fitting, ~fitting


def in_fitting_half(file_name: str) -> bool:
    """Whether the picture is one to fit on: a fixed coin toss for each file name."""
    return hashlib.sha256(f"{HALVES_SEED} {file_name}".encode()).digest()[0] % 2 == 0


def fit_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """The temperature T by which `logits` (n, 7) are divided for a mean confidence of just the share right.

    What is shown is the confidence in one emotion, so that is what is set right. The least cross-entropy,
    which is more often asked for, weighs all seven probabilities, and the surest pictures most.

    `logits` may be log-probabilities as well: they differ by a constant a row, which softmax takes out.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    scores = np.asarray(logits, np.float64)
    accuracy = (scores.argmax(axis=1) == labels).mean()

    def overconfidence(log_temperature: float) -> float:
        confidence = softmax(scores / np.exp(log_temperature), axis=1).max(axis=1)
        return float(confidence.mean() - accuracy)

    # Falls as the temperature rises. Beyond either end: a few pictures that are all right, or all wrong.
    lowest, highest = np.log(TEMPERATURES)
    if overconfidence(lowest) <= 0:
        return TEMPERATURES[0]
    if overconfidence(highest) >= 0:
        return TEMPERATURES[1]
    return float(np.exp(brentq(overconfidence, lowest, highest)))


def reliability(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], bins: int = BINS
) -> list[dict[str, Any]]:
    """The bins of a reliability diagram, lowest confidence first, as plain JSON.

    Each has its limits `above` and `up_to`, its number of `pictures`, and, where there are any, their mean
    `confidence` (the highest of the seven in `probabilities` (n, 7)) and `accuracy` against `labels` (n,).
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    # Probabilities of float32 may exceed 1 by a rounding error: the inner edges alone decide.
    place = np.digitize(confidence, edges[1:-1], right=True)
    found = []
    for index in range(bins):
        here = place == index
        found.append(
            {
                "above": float(edges[index]),
                "up_to": float(edges[index + 1]),
                "pictures": int(here.sum()),
                "confidence": float(confidence[here].mean()) if here.any() else None,
                "accuracy": float(right[here].mean()) if here.any() else None,
            }
        )
    return found


def expected_calibration_error(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], bins: int = BINS
) -> float:
    """ECE, a fraction of 1: the mean distance of accuracy and confidence in a bin, weighted by its pictures.

    `labels` (n,) and `probabilities` (n, 7), n at least 1.
    """
    filled = [row for row in reliability(labels, probabilities, bins) if row["pictures"]]
    apart = sum(row["pictures"] * abs(row["accuracy"] - row["confidence"]) for row in filled)
    return float(apart / len(labels))


def error_by_chance(
    probabilities: NDArray[np.float32], bins: int = BINS, draws: int = 1000
) -> dict[str, float]:
    """What the ECE of a model would be whose confidence is right: above 0, since pictures are few in a bin.

    Whether each picture is right is drawn with just the confidence in `probabilities` (n, 7), n at least 1,
    as its chance, with a fixed seed (the consistency resampling of Bröcker and Smith, Increasing the
    Reliability of Reliability Diagrams, 2007). Returns the `mean` of all draws and the `level` 0.95 quantile
    `up_to`, fractions of 1.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    within = np.eye(bins)[place]
    drawn = np.random.default_rng(0).random((draws, len(confidence))) < confidence
    errors = np.abs((drawn - confidence) @ within).sum(axis=1) / len(confidence)
    return {"mean": float(errors.mean()), "level": 0.95, "up_to": float(np.quantile(errors, 0.95))}
