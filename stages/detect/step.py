"""The step of the detect stage: one frame in, its faces and their crops out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.emotions import FACE_SIZE
from pipeline.messages import Box, Face
from stages.detect.crop import crop_face
from stages.detect.detector import Detector


def detect_step(
    detector: Detector, image: NDArray[np.uint8], around: Sequence[Box] | None = None
) -> tuple[list[Face], NDArray[np.uint8]]:
    """Return the faces of a frame (h, w, 3), BGR, and their crops (n, 48, 48), grey uint8.

    around: as for Detector.detect.
    """
    faces = detector.detect(image, around)
    crops = np.zeros((len(faces), FACE_SIZE, FACE_SIZE), np.uint8)
    for crop, face in zip(crops, faces, strict=True):
        crop[:] = crop_face(image, detector.square(face))
    return faces, crops
