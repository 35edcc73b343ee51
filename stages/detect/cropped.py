"""The detector for pictures that are a face each: it searches nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.detect.spec import DetectSettings
from stages.faces import Box, Face


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
