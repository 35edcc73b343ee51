"""Cameras, read with OpenCV."""

import time
from typing import Final

import cv2
import numpy as np

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import SourceFailed, TimedFrame, to_bgr
from stages.capture.spec import CaptureSettings

STALLED_S: Final = 2.0
"""A read that fails after so long has waited in vain: of a camera that is gone it fails at once."""


class CameraReader:
    """Gives the frames as they come; `read` waits for the next one."""

    def __init__(self, spec: SourceSpec, settings: CaptureSettings) -> None:
        """Raises UserError unless the camera opens and gives a frame."""
        _silence_opencv()
        self._name = spec.name
        self._capture = _open(spec, settings)
        read, image = self._capture.read() if self._capture.isOpened() else (False, None)
        if not read or image is None:
            self._capture.release()
            raise UserError(
                f"source {spec.text!r}: this camera does not open or gives no picture; is it there, and free?"
            )
        height, width = image.shape[:2]
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        sound = np.isfinite(fps) and 0 < fps <= 1000
        self.info = SourceInfo(spec.name, "live", width, height, float(fps) if sound else 0.0)
        self._start_s = time.monotonic()

    def read(self) -> TimedFrame | None:
        began_s = time.monotonic()
        read, image = self._capture.read()
        if not read or image is None:
            waited_s = time.monotonic() - began_s
            what = f"for {waited_s:.1f} s" if waited_s >= STALLED_S else "comes any more"
            raise SourceFailed(f"{self._name}: no picture {what}")
        return TimedFrame(to_bgr(np.asarray(image)), time.monotonic() - self._start_s)

    def close(self) -> None:
        self._capture.release()


def _silence_opencv() -> None:
    """What is wrong with a source is said once, in our words: OpenCV adds nothing."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _open(spec: SourceSpec, settings: CaptureSettings) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(int(spec.text.removeprefix("/dev/video")))  # a path would go to FFmpeg
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest that waits
    wishes = (
        (cv2.CAP_PROP_FRAME_WIDTH, settings.camera_width),
        (cv2.CAP_PROP_FRAME_HEIGHT, settings.camera_height),
        (cv2.CAP_PROP_FPS, settings.camera_fps),
    )
    for prop, value in wishes:
        if value:
            capture.set(prop, value)
    return capture
