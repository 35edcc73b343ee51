"""`python -m tools.measure_detector CLIP [LABELS.json]` measures both detectors on a video.

For each: faces a frame, and milliseconds of CPU a frame, on one thread. YuNet is measured a second time as it
searches live sources: everywhere in some frames, near known faces in the others. With the labels of a mosaic,
a video of pictures laid out as tiles: recall, false boxes, and how the boxes lie on the tiles, from which the
crop follows. Labels are JSON with `tile`, `gap` (px), `rows` and `cols`.
"""

import argparse
import dataclasses
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import av
import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from stages.detect.detector import Detector, open_detector
from stages.detect.spec import DetectSettings
from stages.faces import Box, Face

FRAMES: Final = 100

LIVE_EVERY: Final = 5
LIVE_AGE: Final = 2
"""At 30 frames a second, every fifth is searched everywhere (`detect.search_interval_ms`). The faces that the
others are searched around are two frames old, since two workers take turns."""

SAME_FACE: Final = 0.5  # least intersection over union of two boxes of one face


class Layout(msgspec.Struct, frozen=True):
    """A mosaic's tiles: squares of `tile` px with `gap` px between them and round all."""

    tile: int
    gap: int
    rows: int
    cols: int

    def corner(self, number: int) -> tuple[float, float]:
        """Upper left corner of a tile, px."""
        row, column = divmod(number, self.cols)
        pitch = self.tile + self.gap
        return column * pitch + self.gap, row * pitch + self.gap

    def tile_of(self, face: Face) -> int | None:
        """The tile, with its half of the gap, in which a box has its centre; None outside all."""
        x, y, width, height = face.box_px
        pitch, edge = self.tile + self.gap, self.gap / 2
        column, row = int((x + width / 2 - edge) // pitch), int((y + height / 2 - edge) // pitch)
        return row * self.cols + column if 0 <= row < self.rows and 0 <= column < self.cols else None


class Shape(NamedTuple):
    """A box in terms of its tile: sizes in tiles, the centre's offset from the tile's centre."""

    width: float
    height: float
    right: float
    low: float


@dataclasses.dataclass
class Figures:
    """What one detector did on one clip."""

    frames: int = 0
    faces: int = 0
    tiles: int = 0
    found: int = 0
    false_boxes: int = 0
    cpu_s: float = 0.0
    boxes: list[Shape] = dataclasses.field(default_factory=list)
    squares: list[Shape] = dataclasses.field(default_factory=list)

    def add(self, faces: Sequence[Face], squares: Sequence[Face], layout: Layout | None) -> None:
        """Count a frame's faces. The first box of a tile is its face, a second one is false."""
        self.frames += 1
        self.faces += len(faces)
        if layout is None:
            return
        self.tiles += layout.rows * layout.cols
        seen: set[int] = set()
        for face, square in zip(faces, squares, strict=True):
            tile = layout.tile_of(face)
            if tile is None or tile in seen:
                self.false_boxes += 1
                continue
            seen.add(tile)
            self.boxes.append(_shape(face, layout, tile))
            self.squares.append(_shape(square, layout, tile))
        self.found += len(seen)

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.frames} frames, {self.faces / self.frames:.2f} faces a frame, "
            f"{1000 * self.cpu_s / self.frames:.1f} ms of CPU a frame"
        )
        if not self.tiles:
            return
        yield f"recall {self.found / self.tiles:.3f} of {self.tiles} tiles, {self.false_boxes} false boxes"
        for name, shapes in (("box", self.boxes), ("crop", self.squares)):
            if shapes:
                width, height, right, low = np.median(shapes, axis=0)
                yield (
                    f"median {name}: {width:.3f} of a tile wide, {height:.3f} high, "
                    f"centre {right:+.3f} to the right, {low:+.3f} low"
                )


def _shape(face: Face, layout: Layout, tile: int) -> Shape:
    x, y, width, height = face.box_px
    left, top = layout.corner(tile)
    side = layout.tile
    right, low = (x + width / 2 - left) / side - 0.5, (y + height / 2 - top) / side - 0.5
    return Shape(width / side, height / side, right, low)


def measure(detector: Detector, images: Sequence[NDArray[np.uint8]], layout: Layout | None) -> Figures:
    """Run a detector over frames (h, w, 3), BGR."""
    figures = Figures()
    detector.detect(images[0])  # the first call allocates
    for image in images:
        start_s = time.process_time()  # the machine may have other things to do
        faces = detector.detect(image)
        figures.cpu_s += time.process_time() - start_s
        squares = [Face((x, y, side, side), 1.0) for x, y, side in map(detector.square, faces)]
        figures.add(faces, squares, layout)
    return figures


class Agreement(NamedTuple):
    """Of two detectors on one clip: the second one's faces, those that both find, and the first one's own."""

    faces: int
    shared: int
    own: int


def compare(detector: Detector, other: Detector, images: Sequence[NDArray[np.uint8]]) -> Agreement:
    """Count the faces that two detectors find in frames (h, w, 3), BGR."""
    faces = shared = own = 0
    for image in images:
        found, expected = detector.detect(image), other.detect(image)
        matched = sum(any(_overlap(face, twin) >= SAME_FACE for twin in found) for face in expected)
        faces, shared, own = faces + len(expected), shared + matched, own + len(found) - matched
    return Agreement(faces, shared, own)


class LiveSearch:
    """A detector that searches as if its frames came from a camera at 30 a second."""

    def __init__(self, detector: Detector) -> None:
        self.square = detector.square
        self.fingerprint = detector.fingerprint
        self._detector = detector
        self._known: deque[list[Face]] = deque(maxlen=LIVE_AGE)
        self._number = 0

    def detect(self, image: NDArray[np.uint8], around: Sequence[Box] | None = None) -> list[Face]:
        everywhere = self._number % LIVE_EVERY == 0 or not self._known
        faces = self._detector.detect(image, None if everywhere else [f.box_px for f in self._known[0]])
        self._known.append(faces)
        self._number += 1
        return faces


def _overlap(face: Face, other: Face) -> float:
    """Intersection over union."""
    (x, y, width, height), (left, top, wide, high) = face.box_px, other.box_px
    across, down = min(x + width, left + wide) - max(x, left), min(y + height, top + high) - max(y, top)
    common = max(across, 0) * max(down, 0)
    return common / (width * height + wide * high - common)


def read_frames(clip: Path, most: int) -> list[NDArray[np.uint8]]:
    """The first frames of a video. Raises UserError if it can't be read."""
    try:
        with av.open(str(clip)) as container:
            frames = container.decode(video=0)
            images = [frame.to_ndarray(format="bgr24") for frame, _ in zip(frames, range(most), strict=False)]
    except (OSError, IndexError, av.FFmpegError) as error:
        raise UserError(f"{clip}: not a video that can be read: {error}") from error
    if not images:
        raise UserError(f"{clip}: no frame in it")
    return [np.asarray(image, np.uint8) for image in images]


def read_layout(labels: Path) -> Layout:
    """Raises UserError if the file does not lay out a mosaic."""
    try:
        return msgspec.json.decode(labels.read_bytes(), type=Layout)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"{labels}: not the labels of a mosaic: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.measure_detector", description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("labels", type=Path, nargs="?", help="of a mosaic, JSON")
    parser.add_argument("--model", default="yunet", help="as detect.model; Haar is measured beside it")
    parser.add_argument(
        "--score", type=float, default=DetectSettings().score_threshold, help="YuNet's least score"
    )
    parser.add_argument("--against", metavar="FILE", help="compare with another YuNet file")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames measured at most")
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        layout = read_layout(given.labels) if given.labels else None
        images = read_frames(given.clip, given.frames)
        for model in dict.fromkeys(("haar", given.model)):
            detector = open_detector(DetectSettings(model=model, score_threshold=given.score))
            name = detector.fingerprint.split()[0]
            print(f"{name}:")
            for line in measure(detector, images, layout).lines():
                print(f"  {line}")
        print(f"{name}, as live sources are searched:")
        for line in measure(LiveSearch(detector), images, layout).lines():
            print(f"  {line}")
        faces, shared, own = compare(LiveSearch(detector), detector, images)
        print(f"  {shared} of {faces} faces of full searches are found, and {own} others")
        if given.against:
            models = (given.model, given.against)
            first, second = (
                open_detector(DetectSettings(model=model, score_threshold=given.score)) for model in models
            )
            faces, shared, own = compare(first, second, images)
            print(f"{shared} of {faces} faces of {given.against} are found, and {own} others")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
