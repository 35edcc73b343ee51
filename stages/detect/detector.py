"""What a face detector is, and the one that the settings ask for."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.detect.model import DETECTORS, resolve_model
from stages.detect.spec import DetectSettings
from stages.faces import Box, Face


class Detector(Protocol):
    """A face detector, and the squares in which its faces look as the training data does."""

    @property
    def fingerprint(self) -> str:
        """Names the detector and its model file: the workers of one run must agree on it."""

    def detect(self, image: NDArray[np.uint8], around: Sequence[Box] | None = None) -> list[Face]:
        """Find the faces of a frame (height, width, 3), BGR, uint8: the most certain ones first.

        around: where faces were a moment ago; a detector may search near them alone. None: everywhere.
        A box may reach over the frame's border by a little. Raises cv2.error if OpenCV can't do it.
        """

    def square(self, face: Face) -> tuple[float, float, float]:
        """Return x, y and side, px, of the square round a face that is cut out for classification."""


def open_detector(settings: DetectSettings) -> Detector:
    """Load the detector. Raises UserError if its file is missing or broken."""
    choice = resolve_model(settings.model)
    kind = DETECTORS[choice.kind]
    opener: Callable[[DetectSettings, Path | None], Detector] = getattr(import_module(kind.module), kind.name)
    return opener(settings, choice.path)
