"""The detector for pictures of one face each, cut out before: none is looked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.detect.spec import DetectSettings
from stages.faces import Box, Face


class WholeFrame:
    """Takes each picture for a face, as in folders of faces that were cut out before."""

    fingerprint = "cropped"

    def __init__(self, settings: DetectSettings, path: Path | None = None) -> None:
        """There is nothing to load."""

    def detect(self, image: NDArray[np.uint8], around: Sequence[Box] | None = None) -> list[Face]:
        """See Detector."""
        height, width = image.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]

    def square(self, face: Face) -> tuple[float, float, float]:
        """The square round the middle that holds all of the picture; beyond its border, that is repeated."""
        _, _, width, height = face.box_px
        side = max(width, height)
        return (width - side) / 2, (height - side) / 2, side
