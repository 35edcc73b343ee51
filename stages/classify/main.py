"""The classify process: batches of crops in, probabilities out."""

import os
from collections.abc import Sequence

import msgspec
import numpy as np

from pipeline.common.labels import FACE_SIZE
from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.messages import Buffer, Classified, ClassifyWork, DetectWork
from stages.classify.classifier import open_classifier
from stages.classify.spec import ClassifyOptions
from stages.worker import Answer, clock_ns, serve

CREDITS = 1
"""While one batch is classified, the next one gathers at the broker, where it can still grow."""


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Load and warm the model, then serve."""
    options = msgspec.json.decode(assignment.options, type=ClassifyOptions)
    classifier = open_classifier(options.settings, options.model)

    def step(work: DetectWork | ClassifyWork, buffers: Sequence[Buffer]) -> Answer:
        assert isinstance(work, ClassifyWork)
        started_ns = clock_ns()
        crops = np.concatenate([np.frombuffer(buffer, np.uint8) for buffer in buffers])
        probabilities = classifier(crops.reshape(work.crops, FACE_SIZE, FACE_SIZE))
        step_ns = clock_ns() - started_ns
        return Classified(work.broker, work.work, work.crops, step_ns), [probabilities.tobytes()]

    return serve(
        assignment,
        stop,
        role="classify",
        pid=os.getpid(),
        fingerprint=classifier.fingerprint,
        credits=CREDITS,
        step=step,
    )
