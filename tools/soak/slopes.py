"""Whether a series is flat: a straight line through it, with the standard error of its slope."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import linregress

BLOCKS: Final = 30
"""Samples that follow each other are alike, which would make the error look small: means of so many blocks in
a row are fitted instead."""


class Slope(NamedTuple):
    """Of a series, a minute."""

    mean: float
    per_minute: float
    error: float  # one standard error of `per_minute`

    def exceeds(self, bound: float) -> bool:
        """Whether it grows by more than `bound` a minute for certain: by two standard errors more."""
        return self.per_minute - 2 * self.error > bound


def slope(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line; at least three samples."""
    blocks = min(BLOCKS, len(values))
    minutes = [float(part.mean()) / 60 for part in np.array_split(np.array(times_s, float), blocks)]
    means = [float(part.mean()) for part in np.array_split(np.array(values, float), blocks)]
    if min(means) == max(means):  # linregress has no error for those
        return Slope(means[0], 0.0, 0.0)
    fit = linregress(minutes, means)
    return Slope(float(np.mean(values)), float(fit.slope), float(fit.stderr))
