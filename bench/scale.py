"""Makes a 1920×1080 copy of a clip, H.264, which all loops then read: the same picture, only larger."""

from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from bench.clip import open_clip
from bench.job import ClipInfo, Job

SIZE: Final = (1920, 1080)
DEFAULT_FPS: Final = 25.0
_ENCODER: Final = {"preset": "veryfast", "crf": "20"}


def run(job: Job) -> ClipInfo:
    """Write up to `frames` frames of one pass to `output`."""
    frames = 0
    with open_clip(job, threads=1, repeat=1) as clip, av.open(job.output, "w") as container:
        rate = Fraction(clip.info.fps or DEFAULT_FPS).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        while (picture := clip.read()) is not None:
            if picture.image is not None:
                frame = av.VideoFrame.from_ndarray(fitted(picture.image), format="bgr24")
                container.mux(stream.encode(frame))
                frames += 1
        container.mux(stream.encode(None))
    return ClipInfo(frames, *SIZE)


def fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) as (1080, 1920, 3): proportions kept, black where it does not reach."""
    height, width = image.shape[:2]
    scale = min(SIZE[0] / width, SIZE[1] / height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (SIZE[0] - inner[0]) // 2, (SIZE[1] - inner[1]) // 2
    canvas = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=method)
    return canvas
