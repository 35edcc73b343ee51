"""Cuts faces out of frames so that they look like the training data: square; grey and 48×48 for FER2013."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.faces import CROPS


def crop_face(
    image: NDArray[np.uint8], square: tuple[float, float, float], shape: tuple[int, ...] = CROPS.shape
) -> NDArray[np.uint8]:
    """Return the square x, y, side (px) of a frame (h, w, 3), BGR, as a face of `shape`, uint8.

    shape: (size, size) for grey, (size, size, 3) for RGB. Where the square reaches over the border, the
    border's pixels are repeated.
    """
    x, y, side = square
    left, top = math.floor(x + 0.5), math.floor(y + 0.5)
    size = max(1, round(side))
    height, width = image.shape[:2]
    # At least one row and column of the frame, for a square that lies wholly outside.
    x0, x1 = min(max(left, 0), width - 1), max(min(left + size, width), 1)
    y0, y1 = min(max(top, 0), height - 1), max(min(top + size, height), 1)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    colours = cv2.COLOR_BGR2GRAY if len(shape) == 2 else cv2.COLOR_BGR2RGB
    face = cv2.cvtColor(image[y0:y1, x0:x1], colours)
    borders = (max(0, y0 - top), max(0, top + size - y1), max(0, x0 - left), max(0, left + size - x1))
    if any(borders):
        face = cv2.copyMakeBorder(face, *borders, cv2.BORDER_REPLICATE)
    # INTER_AREA averages when shrinking; it would give blocks when growing.
    method = cv2.INTER_AREA if size > shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, shape[:2], interpolation=method), np.uint8)
