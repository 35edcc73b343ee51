"""The classify process: batches of crops in, probabilities out."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.wire.assignment import Assignment, StopFlag
from stages.classify.classifier import open_classifier
from stages.classify.spec import ClassifyOptions
from stages.faces import PROBABILITIES
from stages.worker import Arrays, serve_items

CREDITS = 1
"""One batch at a time: the next one grows at the broker meanwhile."""


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Load and warm the model, then serve."""
    options = msgspec.json.decode(assignment.options, type=ClassifyOptions)
    classifier = open_classifier(options.settings, options.model)

    def step(crops: NDArray[np.uint8]) -> Arrays:
        return {PROBABILITIES.name: classifier(crops)}

    return serve_items(assignment, stop, fingerprint=classifier.fingerprint, credits=CREDITS, step=step)
