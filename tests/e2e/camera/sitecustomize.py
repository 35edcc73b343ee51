"""In a capture process OpenCV finds the camera that a test plays.

FAKE_CAMERA is a folder, its file `does` says what becomes of the camera: works, gone, or hangs. Python
imports this by itself where its folder is on the path.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

FPS = 25


def _install(folder: Path) -> None:
    import cv2
    import numpy as np

    class Camera:
        def __init__(self, *_: object) -> None:
            # Not before: `python -m pipeline.supervisor.child_main` would find itself imported already.
            from pipeline.config.sources import SourceSpec
            from stages.capture import live_feed
            from stages.capture.sources.demo import DemoReader

            live_feed.STUCK_S = 6.0  # type: ignore[misc]
            self._demo = DemoReader(SourceSpec("demo:1", "demo", "demo"))
            self._open = self._does() == "works"

        def _does(self) -> str:
            return (folder / "does").read_text()

        def isOpened(self) -> bool:  # noqa: N802
            return self._open

        def read(self) -> tuple[bool, Any]:
            if self._does() == "hangs":
                (folder / "hangs").touch()
                time.sleep(3600)
            time.sleep(1 / FPS)
            picture = self._demo.read()
            if self._does() == "gone" or picture is None or picture.image is None:
                return False, None
            return True, np.ascontiguousarray(picture.image[::2, ::2])

        def get(self, _: int) -> float:
            return FPS

        def set(self, *_: float) -> bool:
            return True

        def release(self) -> None:
            pass

    cv2.VideoCapture = Camera  # type: ignore[misc, assignment]


if "FAKE_CAMERA" in os.environ and sys.orig_argv[-1].startswith("capture"):
    _install(Path(os.environ["FAKE_CAMERA"]))
