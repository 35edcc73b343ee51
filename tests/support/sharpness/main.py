"""The sharpness process: crops in, a number for each out."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.wire.assignment import Assignment, StopFlag
from stages.worker import Arrays, serve_items


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Serve until the run ends."""
    return serve_items(assignment, stop, fingerprint="laplacian", credits=2, step=sharpness)


def sharpness(crops: NDArray[np.uint8]) -> Arrays:
    """Return the variance of the Laplacian of each crop, (n, 48, 48) grey."""
    return {"sharpness": np.array([cv2.Laplacian(crop, cv2.CV_64F).var() for crop in crops], np.float32)}
