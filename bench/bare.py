"""What a frame costs when nothing surrounds the work: CPU time of each part, one thread each."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from bench.clip import open_clip
from bench.job import BareCost, Job
from bench.plain import classify, deliverable, open_models
from stages.detect.step import detect_step
from stages.display.draw import draw_faces
from stages.display.record import make_record, round_box


def run(job: Job) -> BareCost:
    """Load and warm the models, then sum up the parts; what lies between them is not counted."""
    detector, classifier = open_models(job)
    spent_ns: Counter[str] = Counter()
    frames = 0
    with open_clip(job, threads=job.threads) as clip:
        detect_step(detector, np.zeros((clip.info.height, clip.info.width, 3), np.uint8))
        while True:
            with _timed(spent_ns, "decode"):
                picture = clip.read()
            if picture is None:
                break
            frames += 1
            if picture.image is None:
                continue
            with _timed(spent_ns, "detect"):
                faces, crops = detect_step(detector, picture.image)
            with _timed(spent_ns, "classify"):
                probabilities = classify(classifier, crops)
            delivery = deliverable(clip, picture, frames, time.monotonic_ns(), faces)
            boxes = [round_box(face.box_px) for face in faces]
            tracks = list(range(1, len(faces) + 1))
            record = make_record(delivery, boxes, tracks, probabilities, time.monotonic_ns())
            with _timed(spent_ns, "draw"):
                draw_faces(picture.image.copy(), record.faces)
    parts = ("decode", "detect", "classify", "draw")
    return BareCost(*(spent_ns[part] / frames / 1e6 for part in parts))


@contextmanager
def _timed(spent_ns: Counter[str], part: str) -> Iterator[None]:
    started_ns = time.process_time_ns()
    try:
        yield
    finally:
        spent_ns[part] += time.process_time_ns() - started_ns
