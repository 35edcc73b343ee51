"""What stages pass on about faces: the arrays with their shapes, and the checks of their values."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pipeline.common.labels import EMOTIONS, FACE_SIZE
from pipeline.config.stage import ArraySpec
from pipeline.wire.messages import MAX_SIDE

if TYPE_CHECKING:  # declarations are read by processes that have no use for numpy
    import numpy as np
    from numpy.typing import NDArray

BOXES: Final = ArraySpec("boxes", "float64", (4,))
"""x, y, width, height in pixels of the frame."""

SCORES: Final = ArraySpec("scores", "float64", ())
"""The detector's confidence in each face, 0 to 1."""

CROPS: Final = ArraySpec("crops", "uint8", (FACE_SIZE, FACE_SIZE), shown=False)
"""Grey pixels of each face; the emotion model's card may ask for another size, or RGB: (size, size, 3)."""

PROBABILITIES: Final = ArraySpec("probabilities", "float32", (len(EMOTIONS),))
"""In the order of EMOTIONS."""

MAX_PX: Final = 2 * MAX_SIDE
"""Largest coordinate of a box: a face may reach beyond its frame."""

TOLERANCE: Final = 0.01
"""How far the sum of a face's probabilities may be from 1: a model in float16 needs about this much."""

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the frame."""


class Face(NamedTuple):
    """A detected face: the detector's box in pixels of the frame, and its score in 0..1."""

    box_px: Box
    score: float


class Faces(NamedTuple):
    """The results of all steps for one frame, a row for each face."""

    boxes: list[Box]
    probabilities: "NDArray[np.float32]"  # (faces, 7) in the order of EMOTIONS
    extras: "dict[str, NDArray[Any]]"  # results of other steps, by name


def pack_faces(faces: list[Face], crops: "NDArray[np.uint8]") -> "dict[str, NDArray[Any]]":
    """Return the arrays that the detect step gives."""
    import numpy as np

    boxes = np.array([face.box_px for face in faces], np.float64).reshape(-1, 4)
    scores = np.array([face.score for face in faces], np.float64)
    return {BOXES.name: boxes, SCORES.name: scores, CROPS.name: crops}


def unpack_faces(items: int, arrays: "Mapping[str, NDArray[Any]]") -> Faces:
    """Return the faces of a delivery; a frame that is not ok has none."""
    import numpy as np

    known = (BOXES.name, SCORES.name, PROBABILITIES.name)
    boxes = [tuple(box) for box in arrays[BOXES.name].tolist()] if items else []
    none = np.zeros((0, len(EMOTIONS)), np.float32)
    extras = {name: array for name, array in arrays.items() if name not in known}
    return Faces(boxes, arrays.get(PROBABILITIES.name, none), extras)


def check_boxes(arrays: "Mapping[str, NDArray[Any]]") -> str:
    """Return what is wrong with boxes and scores, "" if nothing is. NaN is outside every range."""
    boxes, scores = arrays[BOXES.name], arrays[SCORES.name]
    if not len(boxes):
        return ""
    if not (abs(boxes) <= MAX_PX).all() or not (boxes[:, 2:] > 0).all():
        return f"boxes that are empty or further than {MAX_PX} px from the frame's corner"
    return "" if 0 <= scores.min() <= scores.max() <= 1 else "scores that are not from 0 to 1"


def check_probabilities(arrays: "Mapping[str, NDArray[Any]]") -> str:
    """Return what is wrong with probabilities, "" if they are from 0 to 1 and add up to 1."""
    rows = arrays[PROBABILITIES.name]
    if len(rows) and not 0 <= rows.min() <= rows.max() <= 1:
        return "probabilities that are not from 0 to 1"
    sums = rows.sum(axis=1)
    if len(rows) and not 1 - TOLERANCE <= sums.min() <= sums.max() <= 1 + TOLERANCE:
        return "probabilities that do not add up to 1"
    return ""
