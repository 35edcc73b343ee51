"""Cameras and network streams, read with OpenCV."""

import os
import time
from typing import Final

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.messages import SourceInfo
from pipeline.settings import CaptureSettings
from pipeline.sources import SourceSpec, without_credentials
from stages.capture.pixels import to_bgr
from stages.capture.reader import Picture, SourceFailed

STREAM_TIMEOUT_MS: Final = 4000
"""To open, and again for each read: cameras send a whole picture, where decoding begins, every 1 to 4 s."""

STALLED_S: Final = 0.95 * STREAM_TIMEOUT_MS / 1000
"""A read that takes as long as its time-out has none but the picture that the decoder still held, if any."""


class CameraReader:
    """Gives the frames as they come; `read` waits for the next one."""

    def __init__(self, spec: SourceSpec, settings: CaptureSettings) -> None:
        """Raises UserError unless the camera or stream opens and gives a frame."""
        _silence_opencv()
        self._name = spec.name
        self._capture = _open(spec, settings)
        read, image = self._capture.read() if self._capture.isOpened() else (False, None)
        if not read or image is None:
            self._capture.release()
            shown = without_credentials(spec.text) if spec.form == "stream" else spec.text
            what = "stream" if spec.form == "stream" else "camera"
            raise UserError(
                f"source {shown!r}: this {what} does not open or gives no picture; is it there, and free?"
            )
        height, width = image.shape[:2]
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        sound = np.isfinite(fps) and 0 < fps <= 1000
        self.info = SourceInfo(spec.name, "live", width, height, float(fps) if sound else 0.0)
        self._start_s = time.monotonic()

    def read(self) -> Picture | None:
        began_s = time.monotonic()
        read, image = self._capture.read()
        waited_s = time.monotonic() - began_s
        if waited_s >= STALLED_S:
            raise SourceFailed(f"{self._name}: no picture for {waited_s:.1f} s")
        if not read or image is None:
            raise SourceFailed(f"{self._name}: no picture comes any more")
        return Picture(to_bgr(np.asarray(image)), time.monotonic() - self._start_s)

    def close(self) -> None:
        self._capture.release()


def _silence_opencv() -> None:
    """What is wrong with a source is said once, in our words: OpenCV and the FFmpeg within it add nothing."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET


def _open(spec: SourceSpec, settings: CaptureSettings) -> cv2.VideoCapture:
    if spec.form == "stream":
        how = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            STREAM_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            STREAM_TIMEOUT_MS,
            cv2.CAP_PROP_N_THREADS,  # each decodes a frame of its own: as many frames late
            settings.threads,
        ]
        return cv2.VideoCapture(spec.text, cv2.CAP_FFMPEG, how)
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
