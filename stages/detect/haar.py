"""OpenCV's Haar cascade, which comes with opencv-python; FER2013 was cut out with it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from stages.detect.spec import DetectSettings
from stages.faces import Box, Face

CASCADE = "haarcascade_frontalface_default.xml"


class HaarDetector:
    """The tutorial's detector, by default with the tutorial's settings."""

    def __init__(self, settings: DetectSettings, path: Path | None = None) -> None:
        """`path` is not used: the cascade comes with OpenCV. Raises UserError if it is not there."""
        path = Path(cv2.__file__).parent / "data" / CASCADE
        if not path.is_file():
            raise UserError(f"no {path}: opencv-python below 5 brings it; install requirements.txt again")
        self._cascade = cv2.CascadeClassifier(str(path))
        self._settings = settings
        self.fingerprint = f"haar {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"

    def detect(self, image: NDArray[np.uint8], around: Sequence[Box] | None = None) -> list[Face]:
        """See Detector. The cascade gives no score: each face has 1; the largest ones come first.

        Equally large ones go from left to right: OpenCV's threads give them in any order.
        """
        boxes = self._cascade.detectMultiScale(
            cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
            scaleFactor=self._settings.haar_scale,
            minNeighbors=self._settings.haar_neighbours,
            minSize=(self._settings.min_face_px, self._settings.min_face_px),
        )
        largest = sorted((tuple(map(float, box)) for box in boxes), key=lambda box: (-box[2], *box))
        return [Face((x, y, w, h), 1.0) for x, y, w, h in largest[: self._settings.max_faces]]

    def square(self, face: Face) -> tuple[float, float, float]:
        """Return the box itself: FER2013's pictures are such boxes."""
        x, y, width, _ = face.box_px
        return x, y, width
