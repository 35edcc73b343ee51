"""Selective prediction: which share of pictures is answered, and how often wrongly, above a confidence.

After El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 11 (2010).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

STEPS: Final = 100
"""Thresholds tried lie between 0 and 1, this many steps apart; the curve has every fifth of them."""


def risk_coverage(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return what thresholds of confidence do to `labels` (n,), `probabilities` (n, 7), as plain JSON.

    Each has its `threshold`; `coverage`, the share of pictures whose highest probability is at least that;
    `risk`, the share of those that is wrong; and `left_out_right`, the share of the others that is right.
    None where there are no pictures.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    curve = []
    for step in range(0, STEPS, 5):
        shown = confidence >= step / STEPS
        curve.append(
            {
                "threshold": step / STEPS,
                "coverage": float(shown.mean()),
                "risk": float(1 - right[shown].mean()) if shown.any() else None,
                "left_out_right": float(right[~shown].mean()) if not shown.all() else None,
            }
        )
    return curve


def uncertain_below(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Return the confidence below which "uncertain" is the better answer.

    That is Chow's rule (1970) where a right answer counts 1, a wrong one -1 and none 0: of all thresholds, in
    hundredths, the least one with the highest sum. Of calibrated confidences it would be 0.5.
    """
    thresholds = np.arange(STEPS) / STEPS
    shown = probabilities.max(axis=1) >= thresholds[:, None]
    worth = np.where(probabilities.argmax(axis=1) == labels, 1, -1)
    return float(thresholds[int((shown * worth).sum(axis=1).argmax())])
