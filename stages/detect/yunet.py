"""YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023), run by OpenCV."""

import hashlib
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.messages import Face
from pipeline.settings import DetectSettings

TOP_K: Final = 5000  # candidates before overlapping ones are merged: OpenCV's own default

LEAST_SIDE: Final = 64
"""Smaller frames get a border: where the net's coarsest map is one cell wide, OpenCV 4.14 reads memory that
was never written, and finds faces of any size in it."""

# The box of a FER2013 picture in terms of YuNet's, measured over PublicTest's pictures as tiles: YuNet's
# box is 1.03 of a tile high and its centre lies 0.025 of a tile low. docs/detection.md has the command.
SIDE: Final = 0.96  # of the box's height
RISE: Final = 0.02  # of the square's side


class YuNetDetector:
    """Finds more faces than Haar and invents fewer, several times faster."""

    def __init__(self, path: Path, settings: DetectSettings) -> None:
        """Raises UserError if the file can't be read or is not YuNet."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"detect.model: {path} can't be read: {error.strerror}") from error
        self._settings = settings
        self.fingerprint = f"yunet {hashlib.sha256(data).hexdigest()[:16]}"
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong is said below
        try:
            self._net = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(data, np.uint8),
                np.empty(0, np.uint8),
                (320, 320),
                settings.score_threshold,
                settings.nms_threshold,
                TOP_K,
            )
            self.detect(np.zeros((LEAST_SIDE, LEAST_SIDE, 3), np.uint8))
        except cv2.error as error:
            raise UserError(
                f"detect.model: {path} is not a YuNet model that OpenCV can load; "
                "get it again with: python run.py download yunet"
            ) from error

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """See Detector. A frame longer than `max_side` is searched in a smaller copy."""
        height, width = image.shape[:2]
        scale = min(1.0, self._settings.max_side / max(height, width))
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        below, right = (max(0, LEAST_SIDE - side) for side in image.shape[:2])
        if below or right:
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT), np.uint8)
        self._net.setInputSize((image.shape[1], image.shape[0]))
        rows: Any = self._net.detect(image)[1]  # (faces, 15) float32, or None
        if rows is None:
            return []
        found = [Face(_box(row[:4] / scale), float(row[-1])) for row in rows if row[2] > 0 and row[3] > 0]
        return sorted(found, key=lambda face: -face.score)[: self._settings.max_faces]

    def square(self, face: Face) -> tuple[float, float, float]:
        """The square that a FER2013 picture of this face would have been."""
        x, y, width, height = face.box_px
        side = SIDE * height
        return x + (width - side) / 2, y + (height - side) / 2 - RISE * side, side


def _box(row: NDArray[np.float32]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in row)
    return x, y, width, height
