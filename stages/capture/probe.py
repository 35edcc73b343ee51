"""`python -m stages.capture.probe` prints the number of the first camera that gives a picture.

It exits with 1, printing nothing, where there is none. A process of its own, since the parent loads no
OpenCV and a camera's driver may hang.
"""

import sys
from pathlib import Path

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from stages.capture.spec import CaptureSettings

MOST_CAMERAS = 4  # tried where the system does not list them


def candidates() -> list[int]:
    """Numbers of cameras that may be there: on Linux, those that have a device."""
    listed = sorted(int(p.name[5:]) for p in Path("/dev").glob("video*") if p.name[5:].isdigit())
    return listed if sys.platform.startswith("linux") else list(range(MOST_CAMERAS))


def main() -> int:
    numbers = candidates()
    if numbers:
        from stages.capture.sources.camera import CameraReader

        for number in numbers:
            try:
                CameraReader(SourceSpec(str(number), "camera", "probe"), CaptureSettings()).close()
            except UserError:
                continue
            print(number)
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
