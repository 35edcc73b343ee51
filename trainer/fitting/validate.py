"""How a network in training does on the validation part."""

from typing import Any

import numpy as np
from scipy.special import log_softmax

from trainer.fitting.lesson import Lesson
from trainer.scoring.predict import predictions


def validate(model: Any, lesson: Lesson) -> dict[str, float | None]:
    """Mean cross-entropy (nats) and top-1 (fractions of 1) on validation, as `Epoch` has them.

    By FER2013's labels for that output, by the people's majority for the other; None without the output or
    without votes.
    """
    found = predictions(model, lesson.validation.pixels)  # of a network in training: logits
    truths = {"fer2013": lesson.validation.labels, "consensus": lesson.consensus}
    figures: dict[str, float | None] = {}
    for name, truth in truths.items():
        known = truth >= 0
        prefix = "validation_" if name == "fer2013" else "validation_consensus_"
        if name not in found or not known.any():
            figures |= {f"{prefix}loss": None, f"{prefix}top1": None}
            continue
        logs, wanted = log_softmax(found[name][known].astype(np.float64), axis=1), truth[known]
        figures[f"{prefix}loss"] = float(-logs[np.arange(len(wanted)), wanted].mean())
        figures[f"{prefix}top1"] = float((logs.argmax(axis=1) == wanted).mean())
    return figures
