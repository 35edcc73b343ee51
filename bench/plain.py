"""(b) The plain loop: the pipeline's own parts, one after the other in one process.

The same reader, detector, classifier, tracker, drawing and results; a frame's faces go in one call. It lacks
what the pipeline adds: stages that work at the same time, and batches over frames. To be as fast as one
process can be, it runs once with one thread in each library and once with as many as there are cores, and the
faster of the two counts; the allocator keeps freed memory, as in the stages.
"""

import time

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.clip import Clip, open_clip
from bench.job import Job, LoopRun
from pipeline.emotions import EMOTIONS
from pipeline.messages import Delivery, Face
from pipeline.settings import DisplaySettings
from stages.capture.reader import Picture
from stages.classify.classifier import Classifier, open_classifier
from stages.detect.detector import Detector, open_detector
from stages.detect.step import detect_step
from stages.display.display import Display


def run(job: Job) -> LoopRun:
    """Load and warm the models, then time the loop."""
    detector, classifier = open_models(job)
    with open_clip(job, threads=job.threads) as clip:
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
                    probabilities = classify(classifier, crops)
                    display.deliver(delivery, probabilities, picture.image, time.monotonic_ns())
                    found += len(faces)
                frames += 1
            return LoopRun(frames, found, time.perf_counter() - started_s)
        finally:
            display.close()


def open_models(job: Job) -> tuple[Detector, Classifier]:
    """Load detector and classifier with the job's threads."""
    cv2.setNumThreads(job.threads)
    replace = msgspec.structs.replace
    detector = open_detector(replace(job.settings.detect, threads=job.threads))
    return detector, open_classifier(replace(job.settings.classify, threads=job.threads))


def classify(classifier: Classifier, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities (n, 7) of a frame's crops (n, 48, 48); a frame without faces costs nothing."""
    return classifier(crops) if len(crops) else np.zeros((0, len(EMOTIONS)), np.float32)


def deliverable(clip: Clip, picture: Picture, number: int, captured_ns: int, faces: list[Face]) -> Delivery:
    """What the broker would hand the display for a picture that could be read."""
    image: NDArray[np.uint8] | None = picture.image
    assert image is not None
    height, width = image.shape[:2]
    return Delivery(
        clip.info.name, number, captured_ns, picture.time_s, "ok", "", picture.file, faces,
        (height, width, 3), clip.info.fps,
    )  # fmt: skip
