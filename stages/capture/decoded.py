"""Pictures as PyAV decodes them, within limits."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from stages.capture.reader import BYTES_PER_PIXEL, Picture, too_large


def limits(max_bytes: int) -> dict[str, str]:
    """What keeps FFmpeg itself from making room for larger pictures, the first and all that follow."""
    return {"max_pixels": str(max_bytes // BYTES_PER_PIXEL)}


class Decoder:
    """The decoder of a video stream. `refused` says why its pictures are too large, if they claim to be."""

    def __init__(self, stream: av.VideoStream, threads: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reformatter = VideoReformatter()
        context = stream.codec_context
        context.thread_count = threads
        context.options = limits(max_bytes)
        self.refused = too_large(context.width, context.height, max_bytes)

    def picture(self, frame: av.VideoFrame, time_s: float) -> Picture:
        """Return the frame in BGR and upright; without pixels, and with the reason, if it is too large."""
        reason = too_large(frame.width, frame.height, self._max_bytes)
        if reason:
            return Picture(None, time_s, reason=reason)
        image = self._reformatter.reformat(frame, format="bgr24").to_ndarray()
        quarter_turns = round(frame.rotation / 90) % 4  # a phone held upright
        return Picture(np.ascontiguousarray(np.rot90(image, quarter_turns), np.uint8), time_s)
