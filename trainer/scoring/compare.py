"""Two models on the same pictures: is one better, or was it luck?

McNemar's test (Psychometrika 12, 1947) in its exact form: of the pictures that just one of the two has right,
each model would have half if they were equally good.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.emotions import EMOTIONS
from trainer.scoring.bootstrap import interval, macro_f1, resample, top1
from trainer.scoring.judging import Judged

TEST: Final = "McNemar, exact, two-sided"


def compare(this: Judged, other: Judged, resamples: int) -> dict[str, Any]:
    """How `this` differs from `other` on the same pictures and labels, as plain JSON, fractions of 1.

    Differences are this less other, with intervals of the bootstrap that draws each picture for both.
    """
    from scipy.stats import binomtest

    this_right, other_right = this.predicted == this.labels, other.predicted == other.labels
    only_this = int((this_right & ~other_right).sum())
    only_other = int((other_right & ~this_right).sum())
    differing = only_this + only_other
    return {
        "outputs": [this.output, other.output],
        "pictures": len(this.labels),
        "both_right": int((this_right & other_right).sum()),
        "only_this_right": only_this,
        "only_other_right": only_other,
        "neither_right": int((~this_right & ~other_right).sum()),
        "test": TEST,
        "p": float(binomtest(only_this, differing).pvalue) if differing else 1.0,
        **differences(joint_counts(this, other), resamples),
    }


def joint_counts(this: Judged, other: Judged) -> NDArray[np.int64]:
    """Pictures (7, 7, 7) by true emotion, what `this` says and what `other` says."""
    shape = (len(EMOTIONS),) * 3
    cells = np.ravel_multi_index((this.labels, this.predicted, other.predicted), shape)
    return np.bincount(cells, minlength=len(EMOTIONS) ** 3).reshape(shape)


def differences(joint: NDArray[np.int64], resamples: int) -> dict[str, Any]:
    """Top-1 and macro-F1 of both, and this less other with its interval, by `joint_counts`."""
    drawn = resample(joint, resamples)
    found = {}
    for name, figure in (("top1", top1), ("macro_f1", macro_f1)):
        found[name] = {
            "this": float(figure(joint.sum(axis=-1))),
            "other": float(figure(joint.sum(axis=-2))),
            "difference": float(figure(joint.sum(axis=-1)) - figure(joint.sum(axis=-2))),
            "interval": interval(figure(drawn.sum(axis=-1)) - figure(drawn.sum(axis=-2))),
        }
    return found
