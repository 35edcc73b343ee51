"""(a) The tutorial's loop: what tutorials on emotion recognition with Keras and OpenCV teach.

    while True:
        read a frame and make it grey
        faces = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(30, 30))
        for each face: cut it out, resize it to 48×48, model.predict(face), draw its box and its emotion

The cascade is OpenCV's haarcascade_frontalface_default.xml. The model is the pipeline's own, in its Keras
form: models/emotion.keras. One process does everything in turn, with its libraries' default threads. The
reader is the pipeline's, and a line of JSON is written for each frame, so that all loops read and write the
same.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.clip import open_clip
from bench.job import Job, LoopRun
from bench.needs import keras_model
from pipeline.card import choose_labels, read_card
from pipeline.emotions import EMOTIONS, FACE_SIZE
from pipeline.quiet import quiet_native
from stages.classify.outputs import output_of

CASCADE: Final = "haarcascade_frontalface_default.xml"
BLUE: Final = (255, 0, 0)


def run(job: Job) -> LoopRun:
    """Load and warm the model, then time the loop."""
    path = keras_model(job.settings)
    card = read_card(path)
    labels = choose_labels(card, job.settings.classify.labels, path)
    with quiet_native():
        import keras

        model = output_of(keras.models.load_model(path, safe_mode=True), labels, card.outputs, path)
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
