"""How far figures would move on other pictures of the same kind: percentile intervals of the bootstrap.

After Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Top-1 and macro-F1 depend on
the pictures through counts of (true, predicted) alone, and drawing n pictures with replacement is drawing
these counts from a multinomial distribution: the same, and much faster.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.95
RESAMPLES: Final = 2000
SEED: Final = 2013
"""Fixed, so that the same predictions have the same intervals."""


def resample(counts: NDArray[np.int64], resamples: int) -> NDArray[np.int64]:
    """Counts (resamples, …) of as many pictures, drawn with replacement from those of `counts` (…)."""
    total = counts.sum()
    drawn = np.random.default_rng(SEED).multinomial(total, counts.ravel() / total, size=resamples)
    return drawn.reshape(resamples, *counts.shape)


def top1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Top-1 (…) of confusion matrices (…, 7, 7), a row for each true emotion."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(right / confusion.sum(axis=(-2, -1)), np.float64)


def macro_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean F1 (…) over the emotions that are there, of confusion matrices (…, 7, 7)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    there, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    f1 = 2 * right / np.maximum(there + predicted, 1)
    return np.asarray(f1.sum(axis=-1, where=there > 0) / (there > 0).sum(axis=-1), np.float64)


def interval(values: NDArray[np.float64]) -> list[float]:
    """Lower and upper end of what LEVEL of the `values` (resamples,) lie between."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def intervals(confusion: NDArray[np.int64], resamples: int) -> dict[str, Any]:
    """Intervals of top-1 and macro-F1 by the confusion matrix (7, 7), as plain JSON, fractions of 1."""
    drawn = resample(confusion, resamples)
    return {
        "level": LEVEL,
        "resamples": resamples,
        "top1": interval(top1(drawn)),
        "macro_f1": interval(macro_f1(drawn)),
    }
