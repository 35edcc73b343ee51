"""Calibration: temperature, reliability diagram, expected calibration error (ECE).

After Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599), except for how the
temperature is fitted: Clarté et al., Expectation consistency for calibration of neural networks, UAI 2023
(arXiv:2303.02644).
"""

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HALVES_SEED: Final = 2013
"""Decides on which half of validation temperatures are fitted. Fixed, independent of a training's seed."""

BINS: Final = 15
"""Bins of equal width, as in the paper."""

TEMPERATURES: Final = (0.05, 20.0)
"""Bounds of a temperature, far beyond what networks need."""


def fitting_half(names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which (n,) of the pictures `names` temperatures are fitted on; ECE is measured on the others.

    A picture's half follows from its file name alone, so that it is the same in any selection of pictures.
    """
    keys = (f"{HALVES_SEED} {PurePosixPath(name).name}" for name in names)
    return np.array([hashlib.sha256(key.encode()).digest()[0] % 2 == 0 for key in keys], np.bool_)


def fit_temperature(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.int64], below: float = 0.0
) -> float:
    """Return the temperature T at which the mean confidence of softmax(logits / T) equals the accuracy.

    Or at which it is `below` the accuracy by that much.

    Minimising cross-entropy, which is more common, weighs all seven probabilities and the surest pictures
    most; but what the pipeline shows is the confidence in one emotion.

    `logits` (n, 7) may be log-probabilities: they differ by a constant a row, which softmax removes.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    scores = np.asarray(logits, np.float64)
    accuracy = (scores.argmax(axis=1) == labels).mean() - below

    def overconfidence(log_temperature: float) -> float:
        confidence = softmax(scores / np.exp(log_temperature), axis=1).max(axis=1)
        return float(confidence.mean() - accuracy)

    # It falls as the temperature rises. It has no root for a few pictures that are all right or all wrong.
    lowest, highest = np.log(TEMPERATURES)
    if overconfidence(lowest) <= 0:
        return TEMPERATURES[0]
    if overconfidence(highest) >= 0:
        return TEMPERATURES[1]
    return float(np.exp(brentq(overconfidence, lowest, highest)))


def reliability(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], bins: int = BINS
) -> list[dict[str, Any]]:
    """Return the bins of a reliability diagram, lowest confidence first, as plain JSON.

    Each has its limits `above` and `up_to`, its number of `pictures`, and, where there are any, their mean
    `confidence` (the highest of the seven in `probabilities` (n, 7)) and `accuracy` against `labels` (n,).
    """
    confidence, place, edges = _binned(probabilities, bins)
    right = probabilities.argmax(axis=1) == labels
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
    """Return the ECE: the mean over pictures of the gap between accuracy and confidence in their bin.

    `labels` (n,) and `probabilities` (n, 7), n at least 1; a fraction of 1.
    """
    filled = [row for row in reliability(labels, probabilities, bins) if row["pictures"]]
    gaps = sum(row["pictures"] * abs(row["accuracy"] - row["confidence"]) for row in filled)
    return float(gaps / len(labels))


def error_by_chance(
    probabilities: NDArray[np.float32], bins: int = BINS, draws: int = 1000
) -> dict[str, float]:
    """Return the ECE of a perfectly calibrated model: above 0, since a bin has few pictures.

    Each picture is drawn as right with the confidence in `probabilities` (n, 7), n at least 1, as its chance,
    with a fixed seed (consistency resampling: Bröcker and Smith, Increasing the Reliability of Reliability
    Diagrams, 2007). Returns the `mean` of all draws and the `level` 0.95 quantile `up_to`, fractions of 1.
    """
    confidence, place, _ = _binned(probabilities, bins)
    drawn = np.random.default_rng(0).random((draws, len(confidence))) < confidence
    errors = np.abs((drawn - confidence) @ np.eye(bins)[place]).sum(axis=1) / len(confidence)
    return {"mean": float(errors.mean()), "level": 0.95, "up_to": float(np.quantile(errors, 0.95))}


def _binned(
    probabilities: NDArray[np.float32], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return confidence (n,) and bin (n,) of each picture, and the edges (bins + 1,)."""
    edges = np.linspace(0, 1, bins + 1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    # A float32 probability may exceed 1 by a rounding error, so only the inner edges decide.
    return confidence, np.digitize(confidence, edges[1:-1], right=True), edges
