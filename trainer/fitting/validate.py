"""How a network in training does on the validation part."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from trainer.fitting.lesson import Lesson

BATCH: Final = 256


def logits(model: Any, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Logits (n, 7) by output of faces (n, 48, 48, 1) uint8, n at least 1."""
    parts = [model.predict_on_batch(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    return {name: np.concatenate([np.asarray(part[name], np.float64) for part in parts]) for name in parts[0]}


def validate(model: Any, lesson: Lesson) -> dict[str, float | None]:
    """Mean cross-entropy (nats) and top-1 (fractions of 1) on validation, as `Epoch` has them.

    By FER2013's labels for that output, by the people's majority for the other; None without the output or
    without votes.
    """
    found = logits(model, lesson.validation.pixels)
    truths = {"fer2013": lesson.validation.labels, "consensus": lesson.consensus}
    figures: dict[str, float | None] = {}
    for name, truth in truths.items():
        known = truth >= 0
        prefix = "validation_" if name == "fer2013" else "validation_consensus_"
        if name not in found or not known.any():
            figures |= {f"{prefix}loss": None, f"{prefix}top1": None}
            continue
        logs, wanted = log_softmax(found[name][known], axis=1), truth[known]
        figures[f"{prefix}loss"] = float(-logs[np.arange(len(wanted)), wanted].mean())
        figures[f"{prefix}top1"] = float((logs.argmax(axis=1) == wanted).mean())
    return figures
