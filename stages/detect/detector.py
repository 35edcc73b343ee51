"""What a face detector is, the one that the settings choose, and the crops of its faces."""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.detect.spec import DETECTORS, DetectSettings, resolve_model
from stages.faces import CROPS, Box, Face


class Detector(Protocol):
    """A face detector. Its squares frame a face as the training data does."""

    @property
    def fingerprint(self) -> str:
        """Detector and model file as text: the workers of a run must agree on it."""

    def detect(self, image: NDArray[np.uint8], around: Sequence[Box] | None = None) -> list[Face]:
        """Return the faces of a frame (height, width, 3), BGR, uint8, the most certain ones first.

        around: where faces were a moment ago; a detector may search only near them. None: everywhere.
        Boxes may reach a little beyond the frame. Raises cv2.error if OpenCV fails.
        """

    def square(self, face: Face) -> tuple[float, float, float]:
        """Return x, y and side, px, of the square to cut out for classification."""


def open_detector(settings: DetectSettings) -> Detector:
    """Load the detector. Raises UserError if its file is missing or broken."""
    choice = resolve_model(settings.model)
    kind = DETECTORS[choice.kind]
    opener: Callable[[DetectSettings, Path | None], Detector] = getattr(import_module(kind.module), kind.name)
    return opener(settings, choice.path)


def crop_face(
    image: NDArray[np.uint8], square: tuple[float, float, float], shape: tuple[int, ...] = CROPS.shape
) -> NDArray[np.uint8]:
    """Return the square x, y, side (px) of a frame (h, w, 3), BGR, as a face of `shape`, uint8.

    shape: (size, size) for grey, (size, size, 3) for RGB. Beyond the frame, the border's pixels are repeated.
    """
    x, y, side = square
    left, top = math.floor(x + 0.5), math.floor(y + 0.5)
    size = max(1, round(side))
    height, width = image.shape[:2]
    # A square wholly outside the frame still gets one row and column of it.
    x0, x1 = min(max(left, 0), width - 1), max(min(left + size, width), 1)
    y0, y1 = min(max(top, 0), height - 1), max(min(top + size, height), 1)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    colours = cv2.COLOR_BGR2GRAY if len(shape) == 2 else cv2.COLOR_BGR2RGB
    face = cv2.cvtColor(image[y0:y1, x0:x1], colours)
    borders = (max(0, y0 - top), max(0, top + size - y1), max(0, x0 - left), max(0, left + size - x1))
    if any(borders):
        face = cv2.copyMakeBorder(face, *borders, cv2.BORDER_REPLICATE)
    # INTER_AREA averages when shrinking, but makes blocks when enlarging.
    method = cv2.INTER_AREA if size > shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, shape[:2], interpolation=method), np.uint8)


def detect_step(
    detector: Detector,
    image: NDArray[np.uint8],
    around: Sequence[Box] | None = None,
    crop_shape: tuple[int, ...] = CROPS.shape,
) -> tuple[list[Face], NDArray[np.uint8]]:
    """Return the faces of a frame (h, w, 3), BGR, and their crops (n, *crop_shape), uint8.

    around: as for Detector.detect. crop_shape: as for crop_face.
    """
    faces = detector.detect(image, around)
    crops = np.zeros((len(faces), *crop_shape), np.uint8)
    for crop, face in zip(crops, faces, strict=True):
        crop[:] = crop_face(image, detector.square(face), crop_shape)
    return faces, crops


class WholeFrame:
    """Returns the whole picture as its face."""

    fingerprint = "cropped"

    def __init__(self, settings: DetectSettings, path: Path | None = None) -> None:
        """There is nothing to load."""

    def detect(self, image: NDArray[np.uint8], around: Sequence[Box] | None = None) -> list[Face]:
        """See Detector."""
        height, width = image.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]

    def square(self, face: Face) -> tuple[float, float, float]:
        """Return the smallest square round the middle that holds the whole picture."""
        _, _, width, height = face.box_px
        side = max(width, height)
        return (width - side) / 2, (height - side) / 2, side
