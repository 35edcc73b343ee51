"""The demo: the portrait that matplotlib ships, tiled and moved so that real faces cross the picture."""

import importlib.util
import math
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec, demo_faces
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import TimedFrame

FRAMES: Final = 300
FPS: Final = 25.0
WIDTH, HEIGHT = 960, 540
DEFAULT_FACES: Final = 4

PORTRAIT: Final = "mpl-data/sample_data/grace_hopper.jpg"  # Rear Admiral Grace Hopper, public domain
HEAD: Final = (slice(25, 365), slice(125, 400))  # rows and columns of the portrait: the head in its cap
SPREAD: Final = 0.82  # share of the picture that the tiles take up; in the rest they move
GAP: Final = 0.90  # share of its cell that a tile takes up


class DemoReader:
    """300 frames of 960×540, the same each time; the last leads back to the first."""

    def __init__(self, spec: SourceSpec) -> None:
        self.info = SourceInfo(spec.name, "file", WIDTH, HEIGHT, FPS)
        faces = demo_faces(spec.text, DEFAULT_FACES)
        self._background = _background()
        head = _portrait()[HEAD]
        self._columns, self._rows = _grid(faces, head.shape[1] / head.shape[0])
        self._faces = faces
        self._cell = SPREAD * WIDTH / self._columns, SPREAD * HEIGHT / self._rows
        scale = GAP * min(self._cell[0] / head.shape[1], self._cell[1] / head.shape[0])
        size = max(1, int(head.shape[1] * scale)), max(1, int(head.shape[0] * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        self._tile = np.asarray(cv2.resize(head, size, interpolation=method), np.uint8)
        self._next = 0

    def read(self) -> TimedFrame | None:
        if self._next >= FRAMES:
            return None
        number = self._next
        self._next += 1
        image = self._background.copy()
        tile_height, tile_width = self._tile.shape[:2]
        for x, y in self._places(number):
            image[y : y + tile_height, x : x + tile_width] = self._tile
        return TimedFrame(image, number / FPS)

    def close(self) -> None:
        """Nothing is held open."""

    def _places(self, number: int) -> list[tuple[int, int]]:
        """Upper left corners: the block glides on a figure of eight, each tile sways in its cell."""
        turn = 2 * math.pi * number / FRAMES
        free_x, free_y = (1 - SPREAD) * WIDTH, (1 - SPREAD) * HEIGHT
        left = free_x * (0.5 + 0.5 * math.sin(turn))
        top = free_y * (0.5 + 0.5 * math.sin(2 * turn))
        cell_width, cell_height = self._cell
        places = []
        for face in range(self._faces):
            row, column = divmod(face, self._columns)
            room_x, room_y = cell_width - self._tile.shape[1], cell_height - self._tile.shape[0]
            sway = turn + 2.4 * face  # neighbours are out of step: 2.4 rad is the golden angle
            x = left + column * cell_width + room_x * (0.5 + 0.5 * math.sin(sway))
            y = top + row * cell_height + room_y * (0.5 + 0.5 * math.cos(sway))
            places.append((int(x), int(y)))
        return places


def _grid(faces: int, aspect: float) -> tuple[int, int]:
    """Columns and rows that leave the tiles, of the given width by height, as large as can be."""

    def tile_height(columns: int) -> float:
        return min(HEIGHT / math.ceil(faces / columns), WIDTH / columns / aspect)

    columns = max(range(1, faces + 1), key=tile_height)
    return columns, math.ceil(faces / columns)


def _portrait() -> NDArray[np.uint8]:
    """The portrait (600, 512, 3), BGR; found without loading matplotlib."""
    package = importlib.util.find_spec("matplotlib")
    path = Path(package.origin).parent / PORTRAIT if package and package.origin else Path(PORTRAIT)
    image = cv2.imread(str(path))
    if image is None:
        raise UserError(f"demo: no portrait {path}; install requirements.txt again")
    return np.asarray(image, np.uint8)


def _background() -> NDArray[np.uint8]:
    """A soft slate gradient (540, 960, 3), BGR."""
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    across = np.linspace(0, 1, WIDTH)[None, :, None]
    top, bottom, glow = np.array([74, 60, 50]), np.array([40, 32, 28]), np.array([22, 18, 12])
    shade = top * (1 - down) + bottom * down + glow * np.sin(math.pi * across)
    return np.asarray(shade, np.uint8)
