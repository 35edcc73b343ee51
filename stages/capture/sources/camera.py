"""Cameras, read with OpenCV; as a program, which cameras there are, since a driver may hang its process.

`python -m stages.capture.sources.camera` prints the number of the first camera that gives a picture, and
exits with 1, printing nothing, where there is none. With `list WIDTH HEIGHT FPS` it prints a line of JSON for
each camera: a `Camera`, opened with what is asked of it (0: the camera's own).
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import msgspec
import numpy as np

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import MAX_BYTES, SourceFailed, TimedFrame, to_bgr
from stages.capture.spec import Camera, CameraMode, CaptureSettings

STALLED_S: Final = 2.0
"""A read that fails only after this long timed out; without the camera it fails at once."""


class CameraReader:
    """Reads the frames as they come; `read` waits for the next one."""

    def __init__(self, spec: SourceSpec, settings: CaptureSettings, max_bytes: int = MAX_BYTES) -> None:
        """Raise UserError unless the camera opens and gives a frame. `max_bytes` is not needed."""
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the errors here say what is wrong
        self._name = spec.name
        self._capture = _open(spec, settings)
        read, image = self._capture.read() if self._capture.isOpened() else (False, None)
        if not read or image is None:
            self._capture.release()
            raise UserError("this camera does not open or gives no picture; is it there, and free?")
        height, width = image.shape[:2]
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.info = SourceInfo(spec.name, "live", width, height, fps if 0 < fps <= 1000 else 0.0)
        self._start_s = time.monotonic()

    def read(self) -> TimedFrame | None:
        began_s = time.monotonic()
        read, image = self._capture.read()
        if not read or image is None:
            waited_s = time.monotonic() - began_s
            stalled = waited_s >= STALLED_S
            what = f"no picture for {waited_s:.1f} s" if stalled else "the pictures have stopped"
            raise SourceFailed(f"{self._name}: {what}")
        return TimedFrame(to_bgr(np.asarray(image)), time.monotonic() - self._start_s)

    def close(self) -> None:
        self._capture.release()


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


MOST_CAMERAS: Final = 4
"""Numbers that are tried where the system does not list its cameras."""

SIZES: Final = ((320, 240), (640, 480), (800, 600), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))
"""Sizes that are asked for, px: cameras give the nearest that they have. OpenCV can't list them."""


def candidates() -> list[int]:
    """Return the numbers of possible cameras; on Linux, of those that have a device."""
    listed = sorted(int(p.name[5:]) for p in Path("/dev").glob("video*") if p.name[5:].isdigit())
    return listed if sys.platform.startswith("linux") else list(range(MOST_CAMERAS))


def cameras(settings: CaptureSettings) -> Iterator[Camera]:
    """Yield the cameras; each is first tried in all sizes, which takes seconds."""
    for number in candidates():
        got = _try(number, settings)
        if got is None:
            if sys.platform.startswith("linux"):  # elsewhere the number is a guess
                yield Camera(number)
            continue
        asked = [CaptureSettings(camera_width=width, camera_height=height) for width, height in SIZES]
        found = {mode for each in asked if (mode := _try(number, each)) is not None}
        yield Camera(number, got, sorted(found, key=lambda mode: (mode.width, mode.height, mode.fps)))


def _try(number: int, settings: CaptureSettings) -> CameraMode | None:
    """Open a camera and return what it gives, None if it gives nothing."""
    try:
        reader = CameraReader(SourceSpec(str(number), "camera", "probe"), settings)
    except UserError:
        return None
    reader.close()
    return CameraMode(reader.info.width, reader.info.height, round(reader.info.fps, 2))


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["list"]:
        width, height, fps = map(int, arguments[1:])
        asked = CaptureSettings(camera_width=width, camera_height=height, camera_fps=fps)
        for camera in cameras(asked):
            print(msgspec.json.encode(camera).decode(), flush=True)
        return 0
    for number in candidates():
        if _try(number, CaptureSettings()) is not None:
            print(number)
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
