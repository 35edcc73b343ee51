"""Which cameras there are: a process of its own, since the supervisor loads no OpenCV and a driver may hang.

`python -m stages.capture.probe` prints the number of the first camera that gives a picture, and exits with 1,
printing nothing, where there is none. `… probe list WIDTH HEIGHT FPS` prints a line of JSON for each camera:
a `Camera`, opened with what is asked of it (0: the camera's own).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from stages.capture.spec import CaptureSettings

MOST_CAMERAS: Final = 4
"""Tried where the system does not list them."""

SIZES: Final = ((320, 240), (640, 480), (800, 600), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))
"""Asked for, px: cameras answer with the nearest size that they have. OpenCV can't list them."""


class Mode(msgspec.Struct, frozen=True):
    """Width, height, px, and frames a second that a camera gave; 0: it does not say its rate."""

    width: int
    height: int
    fps: float


class Camera(msgspec.Struct, frozen=True):
    """A camera: what it gave for what the settings ask, and which other sizes it has."""

    number: int
    got: Mode | None = None  # None: it gives no picture
    modes: list[Mode] = []


def candidates() -> list[int]:
    """Numbers of cameras that may be there: on Linux, those that have a device."""
    listed = sorted(int(p.name[5:]) for p in Path("/dev").glob("video*") if p.name[5:].isdigit())
    return listed if sys.platform.startswith("linux") else list(range(MOST_CAMERAS))


def cameras(settings: CaptureSettings) -> Iterator[Camera]:
    """Yield the cameras, each after it was tried in all sizes, which takes seconds."""
    for number in candidates():
        got = _try(number, settings)
        if got is None:
            if sys.platform.startswith("linux"):  # elsewhere the number was a guess
                yield Camera(number)
            continue
        asked = [CaptureSettings(camera_width=width, camera_height=height) for width, height in SIZES]
        found = {mode for each in asked if (mode := _try(number, each)) is not None}
        yield Camera(number, got, sorted(found, key=lambda mode: (mode.width, mode.height, mode.fps)))


def _try(number: int, settings: CaptureSettings) -> Mode | None:
    """Open a camera and return what it gives; None if that is nothing."""
    from stages.capture.sources.camera import CameraReader

    try:
        reader = CameraReader(SourceSpec(str(number), "camera", "probe"), settings)
    except UserError:
        return None
    reader.close()
    return Mode(reader.info.width, reader.info.height, round(reader.info.fps, 2))


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
