"""The camera of a visitor of the web page: JPEGs that the page's process passes on, one visitor at a time.

While there is no visitor nothing comes, and that is no failure: unlike a camera's, this silence has no limit.
"""

import time
from typing import Final

from pipeline.wire.messages import SourceInfo
from pipeline.wire.page_link import CaptureEnd, VisitorFrame
from stages.capture.live_feed import LiveFrame
from stages.capture.reader import TimedFrame
from stages.capture.sources.images import decode_picture
from stages.worker import clock_ns

SAY_AGAIN_S: Final = 0.5
"""How often the page's process, which may be a new one, is told that a picture is wanted."""

USUAL_SIZE: Final = (640, 480)
"""What pages ask of cameras, px. The first picture comes after this process has said hello."""


class VisitorCamera:
    """See `stages.capture.live_feed.LiveSource`."""

    def __init__(self, address: str, name: str, max_bytes: int) -> None:
        """address: the one that the page's process binds. A picture may have `max_bytes` of pixels."""
        self.info = SourceInfo(name, "live", *USUAL_SIZE, 0.0)
        self._link = CaptureEnd(address, name)
        self._max_bytes = max_bytes
        self._number = 0  # of the last picture, 0 before the first
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
        # By Pillow: OpenCV's decoder writes a line to stderr for each damaged picture that comes.
        image, self._trouble = decode_picture(came[-1].jpeg, ("JPEG",), self._max_bytes)
        if not self._stopped:
            self._say()  # now, so that the next picture travels while this one is sent
        newest = LiveFrame(now_ns, TimedFrame(image, 0.0, reason=self._trouble))
        return [LiveFrame(now_ns, None)] * superseded + [newest]

    def _say(self) -> None:
        self._said_s = time.monotonic()
        self._link.want(self._number, self._trouble)

    def _left_out(self, frame: VisitorFrame) -> int:
        """Return how many pictures newer ones have replaced on the way since the last one that came."""
        before, self._number = self._number, frame.number  # a new page's process may count anew
        return max(0, frame.number - before - 1) if before else 0

    def stop(self) -> None:
        """Want no more pictures."""
        self._stopped = True

    def close(self) -> bool:
        self._link.close()
        return True
