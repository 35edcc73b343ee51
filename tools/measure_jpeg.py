"""`python -m tools.measure_jpeg CLIP…`: the cost of sending a frame to another machine, raw and as JPEG.

For each clip: bytes a frame, and milliseconds of making the JPEG and of checking and decoding it, medians on
one thread of OpenCV.
"""

import argparse
import statistics
import sys
import time
from contextlib import closing
from typing import Final, NamedTuple

import cv2
import numpy as np

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec, parse_sources
from stages.capture.reader import open_reader
from stages.capture.spec import CaptureSettings
from stages.image_codec import ImageReader, to_jpeg

FRAMES: Final = 100
HEADER: Final = """\
| clip | size | raw, kB | JPEG, kB | smaller by | encode, ms | decode, ms |
|---|---|---|---|---|---|---|"""


class Cost(NamedTuple):
    """Of one frame."""

    raw_bytes: int
    jpeg_bytes: int
    encode_ms: float
    decode_ms: float


def measure(spec: SourceSpec, quality: int, frames: int) -> tuple[str, list[Cost]]:
    """Return the size of a clip's frames and what each costs. Raises UserError if it does not open."""
    costs = []
    decoder = ImageReader(sys.maxsize)
    with closing(open_reader(spec, CaptureSettings(max_frames=frames))) as reader:
        while (picture := reader.read()) is not None:
            if picture.image is None:
                continue
            height, width = picture.image.shape[:2]
            started_s = time.perf_counter()
            jpeg = to_jpeg(picture.image, quality)
            encoded_s = time.perf_counter()
            decoder.image(jpeg, "jpeg", (height, width, 3))
            decoded_s = time.perf_counter()
            times = 1000 * (encoded_s - started_s), 1000 * (decoded_s - encoded_s)
            costs.append(Cost(picture.image.nbytes, len(jpeg), *times))
    return f"{reader.info.width}×{reader.info.height}", costs


def row(name: str, size: str, costs: list[Cost]) -> str:
    """A line of the table: medians over the frames."""
    raw, jpeg, encode_ms, decode_ms = (statistics.median(values) for values in np.array(costs).T.tolist())
    sizes = f"{raw / 1000:.0f} | {jpeg / 1000:.0f} | {raw / jpeg:.1f} ×"
    return f"| {name} | {size} | {sizes} | {encode_ms:.1f} | {decode_ms:.1f} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.measure_jpeg", description=__doc__)
    parser.add_argument("clips", metavar="CLIP", nargs="+")
    parser.add_argument("--quality", type=int, choices=range(1, 101), metavar="1…100", default=90)
    parser.add_argument("--frames", type=int, default=FRAMES)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(HEADER)
    try:
        for spec in parse_sources(options.clips):
            print(row(spec.name, *measure(spec, options.quality, options.frames)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
