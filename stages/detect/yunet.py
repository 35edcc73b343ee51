"""YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023), run by ONNX Runtime.

Its boxes are those of cv2.FaceDetectorYN, which takes more than twice as long.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from stages.detect.spec import DetectSettings
from stages.faces import Box, Face
from stages.onnx_model import MAX_BYTES, open_session, reason

MARGIN: Final = 0.75
"""Searched around a face, in face sizes: for its movement, and for the context that the network needs. With
0.5 as with 1, no face of the clips is lost two frames later (docs/detection.md)."""

STEP: Final = 32
"""px; regions are aligned to the network's coarsest cells, so that faces look as they do in the whole
frame."""

MOST: Final = 0.6
"""Share of the frame: if regions cover more, the whole frame is searched, which costs little more."""


class Region(NamedTuple):
    """A part of a frame, px; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)

    def touches(self, other: "Region") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def joined(self, other: "Region") -> "Region":
        return Region(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


def regions_around(boxes: Sequence[Box], width: int, height: int) -> list[Region]:
    """Return where to search for the faces that were in `boxes` (x, y, width, height, px).

    Regions do not overlap; if they would cover most of the frame, the whole frame is returned.
    """
    whole = Region(0, 0, width, height)
    found: list[Region] = []
    for box in boxes:
        region = _around(box, width, height)
        while touched := next((other for other in found if region.touches(other)), None):
            found.remove(touched)
            region = region.joined(touched)
        found.append(region)
    return found if sum(region.area for region in found) <= MOST * whole.area else [whole]


def _around(box: Box, width: int, height: int) -> Region:
    corner, size, frame = np.array(box[:2]), np.array(box[2:]), np.array((width, height))
    middle, reach = corner + size / 2, (0.5 + MARGIN) * size.max()
    first = (np.floor((middle - reach) / STEP) * STEP).clip(0, frame - 1)
    end = (np.ceil((middle + reach) / STEP) * STEP).clip(1, frame)
    return Region(*map(int, first), *map(int, end))


HEADS: Final = {"cls": 1, "obj": 1, "bbox": 4}  # outputs asked for, and their values a cell
STRIDES: Final = (8, 16, 32)  # px between the cells of each output
NAMES: Final = [f"{head}_{stride}" for stride in STRIDES for head in HEADS]
TOP_K: Final = 5000  # candidates before overlapping ones are merged: OpenCV's own default

# The box of a FER2013 picture in terms of YuNet's, measured over PublicTest's pictures as tiles: YuNet's
# box is 1.03 of a tile high and its centre lies 0.025 of a tile low. docs/detection.md has the command.
SIDE: Final = 0.96  # of the box's height
RISE: Final = 0.02  # of the square's side


class YuNetDetector:
    """Finds more faces than Haar, fewer false ones, and is ten times faster."""

    def __init__(self, settings: DetectSettings, path: Path) -> None:
        """Raise UserError if the file can't be read or is not YuNet."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)  # of a larger one, enough to be refused
        except OSError as error:
            raise UserError(f"detect.model: {path} can't be read: {error.strerror}") from error
        self.fingerprint = f"yunet {hashlib.sha256(data).hexdigest()[:16]}"
        self._settings = settings
        self._session = open_session(path, data, settings.threads, "detect.model")
        self._input = self._session.get_inputs()[0].name
        self._buffers = Buffers()
        try:
            self._check()
        except Exception as error:  # ONNX Runtime raises a class of its own for each fault
            raise UserError(f"detect.model: {path} is not a YuNet face detector: {reason(error)}") from error

    def detect(self, image: NDArray[np.uint8], around: Sequence[Box] | None = None) -> list[Face]:
        """See Detector. A frame longer than `max_side` is searched in a smaller copy."""
        height, width = image.shape[:2]
        scale = min(1.0, self._settings.max_side / max(height, width))
        if scale < 1:
            image = self._buffers.shrink(image, max(1, round(width * scale)), max(1, round(height * scale)))
        regions = [Region(0, 0, image.shape[1], image.shape[0])]
        if around is not None:
            near = (np.array(around, np.float64).reshape(-1, 4) * scale).tolist()
            regions = regions_around(near, image.shape[1], image.shape[0])
        boxes, scores = self._search(image, regions)
        kept = self._merge(boxes, scores)[: self._settings.max_faces]
        found = zip((boxes[kept] / scale).tolist(), scores[kept].tolist(), strict=True)
        return [Face((x, y, width, height), score) for (x, y, width, height), score in found]

    def square(self, face: Face) -> tuple[float, float, float]:
        """Return the square that FER2013 would have for this face."""
        x, y, width, height = face.box_px
        side = SIDE * height
        return x + (width - side) / 2, y + (height - side) / 2 - RISE * side, side

    def _check(self) -> None:
        """Run a black frame. Raise ValueError if it is not YuNet, or takes only one size."""
        inputs = [(tensor.type, tensor.shape) for tensor in self._session.get_inputs()]
        kind, shape = inputs[0]
        if len(inputs) != 1 or kind != "tensor(float)" or len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"one input, tensor(float) (1, 3, height, width), expected, {inputs} found")
        if any(isinstance(side, int) for side in shape[2:]):
            raise ValueError(f"any height and width expected, {shape[2]}×{shape[3]} alone found")
        height, width = 2 * STEP, STEP
        outputs = self._run(self._buffers.to_input(np.zeros((height, width, 3), np.uint8)))
        for name, output in zip(NAMES, outputs, strict=True):
            head, stride = name.split("_")
            expected = (1, height * width // int(stride) ** 2, HEADS[head])
            if output.dtype != np.float32 or output.shape != expected:
                raise ValueError(
                    f"output {name}: float32 {expected} expected, {output.dtype} {output.shape} found"
                )

    def _run(self, pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(NAMES, {self._input: pixels})
        return outputs

    def _search(
        self, image: NDArray[np.uint8], regions: Sequence[Region]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes x, y, width, height (n, 4), px of the frame, and their scores (n,)."""
        found = [(np.empty((0, 4), np.float32), np.empty(0, np.float32))]
        for region in regions:
            part = image[region.top : region.bottom, region.left : region.right]
            pixels = self._buffers.to_input(part)
            outputs, columns, least = self._run(pixels), pixels.shape[3], self._settings.score_threshold
            for level, stride in enumerate(STRIDES):
                cls, obj, bbox = outputs[3 * level : 3 * level + 3]
                boxes, scores = decode(cls, obj, bbox, stride, columns // stride, least)
                boxes[:, :2] += (region.left, region.top)
                found.append((boxes, scores))
        boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        sound = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
        return boxes[sound], scores[sound]

    def _merge(self, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
        """Return which boxes are kept of those that overlap, the highest scores first."""
        least, overlap = self._settings.score_threshold, self._settings.nms_threshold
        # cv2.FaceDetectorYN compares boxes in whole pixels too.
        whole = np.trunc(boxes).tolist()
        return list(cv2.dnn.NMSBoxes(whole, scores.tolist(), least, overlap, top_k=TOP_K))


class Buffers:
    """Memory reused for every frame: on virtual machines, first touching new memory is slow."""

    def __init__(self) -> None:
        self._small = self._planes = np.empty(0, np.uint8)
        self._floats = np.empty(0, np.float32)

    def shrink(self, image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
        """Return a smaller copy (height, width, 3) of a frame, valid until the next call.

        Down to half the size, INTER_LINEAR is four times faster than INTER_AREA and finds as many faces
        (docs/detection.md); below that it would skip pixels.
        """
        method = cv2.INTER_LINEAR if 2 * width >= image.shape[1] else cv2.INTER_AREA
        if self._small.size < height * width * 3:
            self._small = np.empty(height * width * 3, np.uint8)
        small = self._small[: height * width * 3].reshape(height, width, 3)
        cv2.resize(image, (width, height), dst=small, interpolation=method)
        return small

    def to_input(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return a frame (h, w, 3), BGR, as the network's input (1, 3, H, W), valid until the next call.

        H and W are the next multiples of 32, padded with black below and to the right.
        """
        height, width = image.shape[:2]
        shape = 3, -(-height // STEP) * STEP, -(-width // STEP) * STEP
        size = shape[0] * shape[1] * shape[2]
        if self._floats.size < size:
            self._planes, self._floats = np.empty(size, np.uint8), np.empty(size, np.float32)
        planes, floats = self._planes[:size].reshape(shape), self._floats[:size].reshape(1, *shape)
        planes[:, height:] = 0
        planes[:, :, width:] = 0
        # Two steps take half the time of one: numpy is slow across strides, OpenCV with float32.
        cv2.split(image, [plane[:height, :width] for plane in planes])
        np.copyto(floats, planes)
        return floats


def decode(
    cls: NDArray[np.float32],
    obj: NDArray[np.float32],
    bbox: NDArray[np.float32],
    stride: int,
    columns: int,
    least: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the boxes (n, 4), px, and scores (n,) of the cells of one level with at least a score.

    cls, obj (1, cells, 1), bbox (1, cells, 4): the level's outputs. stride: px between cells. columns: cells
    in a row.
    """
    scores = np.sqrt(cls.clip(0, 1) * obj.clip(0, 1)).reshape(-1)
    cells = np.flatnonzero(scores >= least)
    values = bbox[0, cells]
    corners = np.stack((cells % columns, cells // columns), axis=1).astype(np.float32)
    with np.errstate(over="ignore"):  # of a network that makes no sense: infinite boxes are left out later
        centres, sizes = (corners + values[:, :2]) * stride, np.exp(values[:, 2:]) * stride
        return np.concatenate((centres - sizes / 2, sizes), axis=1), scores[cells]
