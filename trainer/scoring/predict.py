"""Faces through a network, in batches."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BATCH: Final = 512
"""Bounds the memory; larger ones are no faster on two cores."""


def predictions(model: Any, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What `model` gives, probabilities or logits (n, 7) float32, for faces.

    `pixels` (n, 48, 48, 1) uint8, n at least 1. What is given is by the name of the output.

    A model with one nameless output, as the baseline, was trained on FER2013's labels: "fer2013".
    """
    starts = range(0, len(pixels), BATCH)
    batches = [by_output(model.predict_on_batch(pixels[s : s + BATCH])) for s in starts]
    return {
        name: np.concatenate([np.asarray(batch[name], np.float32) for batch in batches])
        for name in batches[0]
    }


def by_output(found: Any) -> dict[str, Any]:
    """What a model has for its outputs (arrays, shapes …), keyed by the names of LABEL_SETS."""
    return dict(found) if isinstance(found, dict) else {"fer2013": found}
