"""Faces through a network, in batches."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BATCH: Final = 512
"""Bounds the memory; larger ones are no faster on two cores."""


def probabilities(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (n, 7) float32 of faces (n, 48, 48, 1) uint8, n at least 1."""
    starts = range(0, len(pixels), BATCH)
    return np.concatenate(
        [np.asarray(model.predict_on_batch(pixels[s : s + BATCH]), np.float32) for s in starts]
    )
