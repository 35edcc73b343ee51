"""Every picture becomes what the rest of the pipeline takes: BGR, uint8, contiguous."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def to_bgr(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a grey (h, w), (h, w, 1), BGR or BGRA picture of 8 or 16 bits or floats 0..1 as BGR uint8.

    Transparent parts show what is stored below them.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    elif image.shape[2] == 4:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR))
    return np.ascontiguousarray(image, np.uint8)
