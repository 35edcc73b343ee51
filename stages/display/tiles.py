"""Several pictures in one: where each source's tile is, and which place of its picture lies under a point."""

import math
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

CANVAS: Final = (1280, 720)
"""Width and height of a picture of several tiles, px."""

EMPTY: Final = (40, 32, 28)  # BGR


class Tile(NamedTuple):
    """Where a picture lies: its left upper corner and size on the canvas, px, and how much it is enlarged."""

    x: int
    y: int
    width: int
    height: int
    scale: float

    def inside(self, x: float, y: float) -> tuple[float, float] | None:
        """Return the place in the picture of a point of the canvas, px of either; None if it lies outside."""
        if not (self.x <= x < self.x + self.width and self.y <= y < self.y + self.height):
            return None
        return (x - self.x) / self.scale, (y - self.y) / self.scale


def cells(count: int) -> list[tuple[int, int, int, int]]:
    """Return x, y, width, height, px, of so many cells that share the canvas, in rows."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    width, height = CANVAS[0] // columns, CANVAS[1] // rows
    return [(number % columns * width, number // columns * height, width, height) for number in range(count)]


def compose(images: list[Image | None]) -> tuple[Image, list[Tile]]:
    """Return one picture of all, uint8 BGR, and where each lies in it; an absent one leaves its cell empty.

    A picture that is alone keeps its size.
    """
    if len(images) == 1 and images[0] is not None:
        height, width = images[0].shape[:2]
        return images[0].copy(), [Tile(0, 0, width, height, 1.0)]
    canvas = np.full((CANVAS[1], CANVAS[0], 3), EMPTY, np.uint8)
    tiles = []
    for image, (x, y, width, height) in zip(images, cells(len(images)), strict=True):
        if image is None:
            tiles.append(Tile(x, y, width, height, 1.0))
            continue
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        left, top = x + (width - size[0]) // 2, y + (height - size[1]) // 2
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=method)
        tiles.append(Tile(left, top, *size, scale))
    return canvas, tiles
