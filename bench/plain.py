"""(b) The plain loop: the pipeline's own parts, one after the other in one process.

The same reader, detector, compiled model, tracker, drawing and results; a frame's faces go in one call.
What it lacks is what the pipeline adds: stages that work at the same time, and batches over frames. It is
not handicapped: OpenCV, TensorFlow and the decoder may use all cores, as they do by default.
"""

import os
import time

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.clip import Clip, open_clip
from bench.job import Job, LoopRun
from pipeline.messages import Delivery, Face
from pipeline.settings import DisplaySettings
from stages.capture.reader import Picture
from stages.classify.classifier import Classifier
from stages.detect.detector import open_detector
from stages.detect.step import detect_step
from stages.display.display import Display

LIBRARY_DEFAULT = 0
"""Threads: what TensorFlow takes for its own choice. Settings name 1 or more."""


def run(job: Job) -> LoopRun:
    """Load and warm the models, then time the loop."""
    detector = open_detector(job.settings.detect)
    classifier = Classifier(msgspec.structs.replace(job.settings.classify, threads=LIBRARY_DEFAULT))
    with open_clip(job, threads=os.cpu_count() or 1) as clip:
        detect_step(detector, np.zeros((clip.info.height, clip.info.width, 3), np.uint8))
        display = Display(DisplaySettings(mode="draw", results=job.output), [clip.spec.name], None)
        try:
            frames = found = 0
            started_s = time.perf_counter()
            while (picture := clip.read()) is not None:
                captured_ns = time.monotonic_ns()
                if picture.image is not None:
                    faces, crops = detect_step(detector, picture.image)
                    delivery = deliverable(clip, picture, frames, captured_ns, faces)
                    display.deliver(delivery, classifier(crops), picture.image, time.monotonic_ns())
                    found += len(faces)
                frames += 1
            return LoopRun(frames, found, time.perf_counter() - started_s)
        finally:
            display.close()


def deliverable(clip: Clip, picture: Picture, number: int, captured_ns: int, faces: list[Face]) -> Delivery:
    """What the broker would hand the display for a picture that could be read."""
    image: NDArray[np.uint8] | None = picture.image
    assert image is not None
    height, width = image.shape[:2]
    return Delivery(
        clip.info.name, number, captured_ns, picture.time_s, "ok", "", picture.file, faces,
        (height, width, 3), clip.info.fps,
    )  # fmt: skip
