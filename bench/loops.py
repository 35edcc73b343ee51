"""`python -m bench.loops`: runs one job of the benchmark, read from standard input; see job.py."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.job import BareCost, ClipInfo, Job, LoopRun, keras_model
from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS, FACE_SIZE
from pipeline.common.model_card import choose_labels, read_card
from pipeline.common.native_output import quiet_native
from pipeline.config.sources import parse_sources
from pipeline.supervisor.child_main import die_with_parent
from pipeline.wire.messages import Delivery
from stages.capture.reader import Reader, SourceFailed, TimedFrame, open_reader
from stages.classify.classifier import Classifier, open_classifier
from stages.classify.keras_classifier import output_of
from stages.detect.detector import Detector, detect_step, open_detector
from stages.display.display import Display
from stages.display.drawing import draw_faces, fit_into
from stages.display.record import Record
from stages.display.spec import DisplaySettings
from stages.faces import Faces


@contextmanager
def open_clip(job: Job, *, threads: int, repeat: int = 0) -> Iterator[Reader]:
    """Open the job's source, which decodes its first frame, as the pipeline's capture does."""
    (spec,) = parse_sources([job.source])
    settings = msgspec.structs.replace(job.capture, repeat=repeat, max_frames=job.frames, threads=threads)
    with closing(open_reader(spec, settings)) as reader:
        yield reader


def count_frames(job: Job) -> ClipInfo:
    """Count the frames of one pass, up to the number asked for."""
    with open_clip(job, threads=1, repeat=1) as clip:
        frames = 0
        while clip.read() is not None:
            frames += 1
        return ClipInfo(frames, clip.info.width, clip.info.height)


def plain_loop(job: Job) -> LoopRun:
    """Load and warm the models, then time the loop."""
    detector, classifier = open_models(job)
    with open_clip(job, threads=job.threads) as clip:
        detect_step(detector, np.zeros((clip.info.height, clip.info.width, 3), np.uint8))
        display = Display(DisplaySettings(mode="draw", results=job.output), [clip.info.name], None)
        try:
            frames = found = 0
            started_s = time.perf_counter()
            while (picture := clip.read()) is not None:
                captured_ns = time.monotonic_ns()
                if picture.image is not None:
                    faces, crops = detect_step(detector, picture.image, crop_shape=classifier.crop_shape)
                    delivery = deliverable(clip, picture, frames, captured_ns)
                    results = Faces([face.box_px for face in faces], classify(classifier, crops), {})
                    display.deliver(delivery, results, picture.image, time.monotonic_ns())
                    found += len(faces)
                frames += 1
            return LoopRun(frames, found, time.perf_counter() - started_s)
        finally:
            display.close()


def open_models(job: Job) -> tuple[Detector, Classifier]:
    """Load detector and classifier with the job's threads."""
    cv2.setNumThreads(job.threads)
    replace = msgspec.structs.replace
    detector = open_detector(replace(job.detect, threads=job.threads))
    return detector, open_classifier(replace(job.classify, threads=job.threads))


def classify(classifier: Classifier, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities (n, 7) of a frame's crops (n, 48, 48), without a call for no faces."""
    return classifier(crops) if len(crops) else np.zeros((0, len(EMOTIONS)), np.float32)


def deliverable(clip: Reader, picture: TimedFrame, number: int, captured_ns: int) -> Delivery:
    """Return what the broker would send to display for a picture."""
    image: NDArray[np.uint8] | None = picture.image
    assert image is not None
    height, width = image.shape[:2]
    return Delivery(
        clip.info.name, number, captured_ns, picture.time_s, "ok", "", picture.file,
        (height, width, 3), clip.info.fps, size=(width, height),
    )  # fmt: skip


def bare_cost(job: Job) -> BareCost:
    """Load and warm the models, then sum up the CPU time of the parts alone."""
    detector, classifier = open_models(job)
    spent_ns: Counter[str] = Counter()
    frames = 0
    with open_clip(job, threads=job.threads) as clip:
        detect_step(detector, np.zeros((clip.info.height, clip.info.width, 3), np.uint8))
        display = Display(DisplaySettings(mode="none"), [clip.info.name], None)
        while True:
            with _timed(spent_ns, "decode"):
                picture = clip.read()
            if picture is None:
                break
            frames += 1
            if picture.image is None:
                continue
            with _timed(spent_ns, "detect"):
                faces, crops = detect_step(detector, picture.image, crop_shape=classifier.crop_shape)
            with _timed(spent_ns, "classify"):
                probabilities = classify(classifier, crops)
            delivery = deliverable(clip, picture, frames, time.monotonic_ns())
            found = Faces([face.box_px for face in faces], probabilities, {})
            line = display.deliver(delivery, found, None, delivery.captured_ns)
            record = msgspec.json.decode(line, type=Record)
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


CASCADE: Final = "haarcascade_frontalface_default.xml"
BLUE: Final = (255, 0, 0)


def tutorial_loop(job: Job) -> LoopRun:
    """Load and warm the model, then time the loop."""
    path = keras_model(job.classify)
    card = read_card(path)
    labels = choose_labels(card, job.classify.labels, path)
    with quiet_native():
        import keras

        model = output_of(keras.models.load_model(path, safe_mode=True), labels, card, path)
        model.predict(np.zeros((1, FACE_SIZE, FACE_SIZE, 1), np.uint8), verbose=0)
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))
    _find(cascade, np.zeros((64, 64), np.uint8))
    with open_clip(job, threads=os.cpu_count() or 1) as clip, Path(job.output).open("w") as results:
        frames = faces = 0
        started_s = time.perf_counter()
        while (picture := clip.read()) is not None:
            if picture.image is not None:
                found = step(cascade, model, picture.image)
                faces += len(found)
                print(json.dumps({"frame": frames, "faces": found}), file=results, flush=True)
            frames += 1
        return LoopRun(frames, faces, time.perf_counter() - started_s)


def step(cascade: Any, model: Any, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Find, classify and draw the faces of a frame (h, w, 3), BGR, which is drawn on."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    faces = []
    for x, y, w, h in _find(cascade, grey):
        face = cv2.resize(grey[y : y + h, x : x + w], (FACE_SIZE, FACE_SIZE))
        probabilities = model.predict(face[None, :, :, None], verbose=0)[0]
        emotion = EMOTIONS[int(np.argmax(probabilities))]
        cv2.rectangle(image, (x, y), (x + w, y + h), BLUE, 2)
        cv2.putText(image, emotion, (x, y - 10), cv2.FONT_HERSHEY_SIMPLEX, 1, BLUE, 2, cv2.LINE_AA)
        faces.append({"box": [x, y, w, h], "emotion": emotion, "confidence": float(probabilities.max())})
    return faces


def _find(cascade: Any, grey: NDArray[Any]) -> list[tuple[int, int, int, int]]:
    boxes = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(30, 30))
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h in boxes]


SIZE: Final = (1920, 1080)
DEFAULT_FPS: Final = 25.0
_ENCODER: Final = {"preset": "veryfast", "crf": "20"}


def scale_clip(job: Job) -> ClipInfo:
    """Write up to `frames` frames of one pass to `output`."""
    frames = 0
    with open_clip(job, threads=1, repeat=1) as clip, av.open(job.output, "w") as container:
        rate = Fraction(clip.info.fps or DEFAULT_FPS).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        while (picture := clip.read()) is not None:
            if picture.image is not None:
                canvas = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
                fit_into(canvas, picture.image)
                frame = av.VideoFrame.from_ndarray(canvas, format="bgr24")
                container.mux(stream.encode(frame))
                frames += 1
        container.mux(stream.encode(None))
    return ClipInfo(frames, *SIZE)


def main() -> int:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    die_with_parent(job.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = JOBS[job.kind](job)
    except (UserError, SourceFailed) as error:  # the latter: the clip is cut off
        print(f"error: {error}", file=sys.stderr)
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0


JOBS: Final = {
    "probe": count_frames,
    "scale": scale_clip,
    "tutorial": tutorial_loop,
    "plain": plain_loop,
    "bare": bare_cost,
}


if __name__ == "__main__":
    sys.exit(main())
