"""The camera of a visitor of the web page: JPEGs that the page's process passes on, one visitor at a time.

While there is no visitor nothing comes, and that is no failure: unlike a camera's, this silence has no limit.
"""

import io
import time
import warnings
from typing import Final

import cv2
import numpy as np
from PIL import Image

from pipeline.wire.messages import SourceInfo
from pipeline.wire.page_link import CaptureEnd, VisitorFrame
from stages.capture.live_feed import LiveFrame, LiveSource
from stages.capture.reader import TimedFrame, too_large
from stages.capture.sources.images import BROKEN
from stages.worker import clock_ns

SAY_AGAIN_S: Final = 0.5
"""How often the page's process, which may be a new one, is told that a picture is wanted."""

MOST_LEFT_OUT: Final = 64
"""Pictures between two that came which are counted as superseded: far more than the page's credits allow."""

USUAL_SIZE: Final = (640, 480)
"""What pages ask of cameras, px. The first picture comes after this process has said hello."""


def visitor_info(name: str) -> SourceInfo:
    """What is known of a visitor's camera before there is one."""
    return SourceInfo(name, "live", *USUAL_SIZE, 0.0)


class VisitorCamera:
    """See `stages.capture.live_feed.LiveSource`."""

    def __init__(self, address: str, name: str, max_bytes: int) -> None:
        """address: the one that the page's process binds. A picture may have `max_bytes` of pixels."""
        self._link = CaptureEnd(address, name)
        self._max_bytes = max_bytes
        self._number = 0  # of the last picture
        self._trouble = ""  # of the last picture
        self._said_s = 0.0
        self._stopped = False

    def take(self, timeout_s: float) -> list[LiveFrame]:
        """Wait for a picture; return all that have come, of which the newest alone has its pixels."""
        if not self._stopped and time.monotonic() - self._said_s >= SAY_AGAIN_S:
            self._say()
        came = self._link.take(round(1000 * timeout_s))
        if not came:
            return []
        now_ns = clock_ns()
        superseded = sum(self._left_out(frame) for frame in came) + len(came) - 1
        newest = self._decoded(came[-1].jpeg)
        self._trouble = newest.reason
        if not self._stopped:
            self._say()  # now, so that the next picture travels while this one is sent
        return [LiveFrame(now_ns, None)] * superseded + [LiveFrame(now_ns, newest)]

    def _say(self) -> None:
        self._said_s = time.monotonic()
        self._link.want(self._number, self._trouble)

    def _left_out(self, frame: VisitorFrame) -> int:
        """Return how many pictures newer ones have replaced on the way since the last one that came."""
        left_out = frame.number - self._number - 1
        self._number = frame.number  # a new page's process may count anew
        return min(left_out, MOST_LEFT_OUT) if left_out > 0 else 0

    def _decoded(self, jpeg: bytes) -> TimedFrame:
        """By Pillow: OpenCV's decoder writes a line to stderr for each damaged picture that comes."""
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture,
            ):
                if reason := too_large(*picture.size, self._max_bytes):
                    return TimedFrame(None, 0.0, reason=f"unreadable: {reason}")
                image = cv2.cvtColor(np.asarray(picture.convert("RGB")), cv2.COLOR_RGB2BGR)
        except BROKEN:
            return TimedFrame(None, 0.0, reason="unreadable: not a JPEG, or a damaged one")
        return TimedFrame(np.asarray(image, np.uint8), 0.0)

    def stop(self) -> None:
        """Want no more pictures."""
        self._stopped = True

    def close(self) -> bool:
        self._link.close()
        return True

    def reopened(self) -> LiveSource:
        """It never breaks off, so that it is never opened again."""
        return self
