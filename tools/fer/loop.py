"""`python loop.py CLIP FRAMES RESULTS`: the package `fer` over a clip, in requirements.txt's environment.

As its documentation has it: frames from cv2.VideoCapture, `FER().detect_emotions(frame)` with all defaults
(Haar, its quantised TensorFlow Lite model). The clip is played again until there are FRAMES frames; a line of
JSON is written for each. Prints frames, faces and seconds as JSON: from the first frame asked for to the last
line.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from fer.fer import FER  # type: ignore[import-not-found]

FACE = (0, 0, 100, 100)
"""A box to classify once, so that the network is warm."""


def play(clip: str, frames: int) -> Iterator[Any]:
    """Give so many frames (h, w, 3), BGR, uint8."""
    given = 0
    while given < frames:
        video = cv2.VideoCapture(clip)
        before = given
        while given < frames:
            there, frame = video.read()
            if not there:
                break
            given += 1
            yield frame
        video.release()
        if given == before:
            raise SystemExit(f"error: {clip}: no frame can be read")


def main() -> int:
    clip, frames, results = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    detector = FER()
    detector.detect_emotions(next(play(clip, 1)), face_rectangles=[FACE])
    faces = 0
    with results.open("w", encoding="utf-8") as file:
        started_s = time.perf_counter()
        for number, frame in enumerate(play(clip, frames)):
            found = detector.detect_emotions(frame)
            faces += len(found)
            boxes = [[int(value) for value in face["box"]] for face in found]
            emotions = [face["emotions"] for face in found]
            print(json.dumps({"frame": number, "boxes": boxes, "emotions": emotions}), file=file, flush=True)
        seconds = time.perf_counter() - started_s
    print(json.dumps({"frames": frames, "faces": faces, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
