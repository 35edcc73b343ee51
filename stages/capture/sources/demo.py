"""The demo: faces that move and change expression, made of the portrait that matplotlib ships."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.config.sources import MAX_DEMO_FACES, SourceSpec, count_of
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import TimedFrame
from stages.capture.spec import CaptureSettings

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

EXPRESSIONS: Final = ("neutral", "happy", "surprise", "sad")
"""The emotions that the shipped model sees in the faces, in the order in which they are shown."""

# Parts of the face: centre, and standard deviations of a Gaussian in width and height, px of the head that is
# cut out of the portrait, 275×340.
_PARTS: Final = {
    "left corner": ((103, 255, 18, 16),),
    "right corner": ((183, 252, 18, 16),),
    "cheeks": ((85, 218, 22, 20), (202, 215, 22, 20)),
    "upper lip": ((143, 245, 30, 9),),
    "lower lip": ((143, 263, 30, 10),),
    "jaw": ((143, 290, 55, 30),),
    "inner brows": ((117, 146, 13, 12), (161, 144, 13, 12)),
    "outer brows": ((78, 146, 16, 14), (208, 141, 16, 14)),
    "upper lids": ((97, 156, 14, 6), (181, 153, 14, 6)),
    "lower lids": ((97, 175, 16, 7), (181, 172, 16, 7)),
}

# How far each part moves, right and down, px: found by a random search for small movements that the shipped
# model is confident about. "neutral" moves too: the model calls the portrait 70 % neutral and 28 % sad.
_MOVES: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "neutral": {
        "left corner": (-2.0, -3.5),
        "right corner": (2.0, -3.5),
        "outer brows": (0, -3.8),
    },
    "happy": {
        "left corner": (-2.0, -15.0),
        "right corner": (2.0, -15.0),
        "cheeks": (0, -6.6),
        "upper lip": (0, -4.0),
        "lower lip": (0, 2.8),
        "jaw": (0, 2.4),
    },
    "surprise": {
        "left corner": (4.0, -4.0),
        "right corner": (-4.0, -4.0),
        "cheeks": (0, 1.5),
        "upper lip": (0, -3.8),
        "lower lip": (0, 1.4),
        "jaw": (0, 2.2),
        "inner brows": (0, -3.9),
        "outer brows": (0, -6.3),
        "upper lids": (0, -1.0),
        "lower lids": (0, 4.0),
    },
    "sad": {
        "left corner": (2.4, 12.0),
        "right corner": (-2.4, 12.0),
        "cheeks": (0, -4.0),
        "upper lip": (0, -3.0),
        "lower lip": (0, -2.6),
        "inner brows": (0, -9.0),
        "outer brows": (0, 1.0),
        "upper lids": (0, 0.8),
        "lower lids": (0, 1.4),
    },
}

_OPEN: Final = {"happy": 8.3, "surprise": 21.6}
"""How far the lower lip moves down from the upper one in the middle of the mouth, px."""

_MOUTH: Final = (143.0, 254.5, 36.0)  # middle of the line between the lips, and half its width, px
_MOUTH_SLOPE: Final = -0.035  # of that line
_LIP: Final = 25.0  # px below the line where the lower lip ends
_CHIN: Final = 90.0  # px below the line where nothing moves any more
_JAW_WIDTH: Final = 50.0  # px
_INSIDE: Final = np.array([30, 22, 58], np.float32)  # of an open mouth, BGR


class Expressions:
    """One face in all its expressions, each made when it is first needed."""

    def __init__(self, face: Image, scale: float) -> None:
        """`face` is the head, uint8 BGR (height, width, 3), `scale` times as large as in the portrait."""
        self._face = face
        self._scale = scale
        rows, columns = np.mgrid[0 : face.shape[0], 0 : face.shape[1]].astype(np.float32)
        self._x, self._y = (columns + 0.5) / scale - 0.5, (rows + 0.5) / scale - 0.5
        self._fields = {
            name: sum((self._bump(*place) for place in places), np.zeros_like(self._x))
            for name, places in _PARTS.items()
        }
        self._made: dict[tuple[str, str, float], Image] = {}

    def between(self, old: str, new: str, share: float) -> Image:
        """Return the face on its way from one expression to another, uint8 BGR (height, width, 3).

        `share` is how far it is on its way, 0 to 1.
        """
        key = (new, new, 1.0) if share >= 1 or old == new else (old, new, share)
        if key not in self._made:
            self._made[key] = self._warp(*key)
        return self._made[key]

    def _bump(self, x: float, y: float, width: float, height: float) -> Floats:
        squared = ((self._x - x) / width) ** 2 + ((self._y - y) / height) ** 2
        return np.asarray(np.exp(-squared / 2), np.float32)

    def _warp(self, old: str, new: str, share: float) -> Image:
        from_x, from_y = self._x.copy(), self._y.copy()
        for weight, parts in ((1 - share, _MOVES[old]), (share, _MOVES[new])):
            for name, (right, down) in parts.items():
                from_x -= np.float32(weight * right) * self._fields[name]
                from_y -= np.float32(weight * down) * self._fields[name]
        opened = (1 - share) * _OPEN.get(old, 0.0) + share * _OPEN.get(new, 0.0)
        from_y, inside = _open_mouth(from_x, from_y, opened)
        columns, rows = ((place + 0.5) * self._scale - 0.5 for place in (from_x, from_y))
        warped = cv2.remap(self._face, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        shade = cv2.GaussianBlur(inside, (0, 0), max(0.3, 0.8 * self._scale))[..., None]
        return np.asarray(warped + shade * (_INSIDE - warped), np.uint8)


def _open_mouth(x: Floats, y: Floats, opened: float) -> tuple[Floats, Floats]:
    """Return where the pixels at `x`, `y` come from, y again, and which lie inside the mouth, 0 to 1.

    The lower lip moves down by `opened` px in the middle of the mouth, and the chin with it; the inside of
    the mouth is not in the portrait."""
    middle, line, half = _MOUTH
    below = y - line - np.float32(_MOUTH_SLOPE) * (x - middle)
    gap = opened * np.sqrt(np.maximum(1 - ((x - middle) / half) ** 2, 0))
    jaw = opened * np.exp(-(((x - middle) / _JAW_WIDTH) ** 2) / 2)
    moved = gap + (jaw - gap) * np.clip(below / _LIP, 0, 1)
    moved *= (0.5 + 0.5 * np.cos(np.pi * np.clip(below / _CHIN, 0, 1))) * (below > 0)
    inside = np.clip(below, 0, 1) * np.clip(gap - below, 0, 1)
    return np.asarray(y - moved, np.float32), np.asarray(inside, np.float32)


FRAMES: Final = 300
FPS: Final = 25.0
WIDTH, HEIGHT = 960, 540

PORTRAIT: Final = "mpl-data/sample_data/grace_hopper.jpg"  # Rear Admiral Grace Hopper, public domain
HEAD: Final = (slice(25, 365), slice(125, 400))  # rows and columns of the portrait: the head in its cap
SPREAD: Final = 0.82  # share of the picture that the tiles take up; in the rest they move
GAP: Final = 0.90  # share of its cell that a tile takes up

HOLD: Final = FRAMES // len(EXPRESSIONS)
"""Frames from one expression to the next: three seconds."""

CHANGE: Final = 10
"""Frames of them in which the face changes."""

SCENE_HEIGHT: Final = 236
"""Of the faces in the scene, px."""


class Placed(NamedTuple):
    """A face in a frame: its left upper corner, px, and how many expressions it is ahead."""

    x: int
    y: int
    ahead: int


def open_demo(spec: SourceSpec, settings: CaptureSettings, max_bytes: int) -> "DemoReader":
    """See DemoReader; its frames are smaller than any `max_bytes`."""
    return DemoReader(spec, settings.start_s)


class DemoReader:
    """300 frames of 960×540, always the same, which can be repeated without a jump.

    `demo` is a scene: two faces cross, one comes, one leaves. `demo:N` has N faces in every frame.
    """

    def __init__(self, spec: SourceSpec, start_s: float = 0.0) -> None:
        """Raise UserError if it ends before `start_s`."""
        start = math.ceil(start_s * FPS)
        self.info = SourceInfo(spec.name, "file", WIDTH, HEIGHT, FPS, max(0, FRAMES - start))
        head = _portrait()[HEAD]
        self._faces = count_of(spec.text, 0, MAX_DEMO_FACES)
        self._columns, self._rows = _grid(max(1, self._faces), head.shape[1] / head.shape[0])
        self._cell = SPREAD * WIDTH / self._columns, SPREAD * HEIGHT / self._rows
        scale = GAP * min(self._cell[0] / head.shape[1], self._cell[1] / head.shape[0])
        if not self._faces:
            scale = SCENE_HEIGHT / head.shape[0]
        # Width and height of a face with its cap and shoulders, px.
        self.face_size = max(1, int(head.shape[1] * scale)), max(1, int(head.shape[0] * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        face = np.asarray(cv2.resize(head, self.face_size, interpolation=method), np.uint8)
        self._expressions = Expressions(face, scale)
        self._background = _background()
        self._next = start
        if self._next >= FRAMES:
            raise UserError(f"it ends after {FRAMES / FPS:g} s, before --start {start_s:g}")

    def read(self) -> TimedFrame | None:
        if self._next >= FRAMES:
            return None
        number = self._next
        self._next += 1
        image = self._background.copy()
        for face in self._grid_places(number) if self._faces else self.scene(number):
            _paste(image, self._face(number, face.ahead), face.x, face.y)
        return TimedFrame(image, number / FPS)

    def close(self) -> None:
        """Nothing is held open."""

    def _face(self, number: int, ahead: int) -> NDArray[np.uint8]:
        """Return a face in the expression of this moment."""
        turn, since = divmod(number, HOLD)
        old, new = (EXPRESSIONS[(turn + ahead + step) % len(EXPRESSIONS)] for step in (-1, 0))
        return self._expressions.between(old, new, _smooth((since + 1) / CHANGE))

    def scene(self, number: int) -> Iterator[Placed]:
        """Four faces, from the back to the front: two cross above, one comes and one leaves below."""
        turn = 2 * math.pi * number / FRAMES
        width, height = self.face_size
        middle, way = (WIDTH - width) / 2, 300.0
        # They meet just after an expression has changed, well before the next change.
        across = way * math.cos(turn - 2 * math.pi * 35 / FRAMES)
        yield Placed(round(middle - across), 16, 0)
        yield Placed(round(middle + across), 30, 1)
        below = HEIGHT - height - 14
        away = WIDTH + 1
        yield Placed(round(590 + (away - 590) * _visit(number, 200, 120)), below, 2)
        yield Placed(round(190 - (width + 1 + 190) * _visit(number, 45, 225)), below - 6, 3)

    def _grid_places(self, number: int) -> Iterator[Placed]:
        """A grid of faces that moves on a figure of eight, while each face sways in its cell."""
        turn = 2 * math.pi * number / FRAMES
        free_x, free_y = (1 - SPREAD) * WIDTH, (1 - SPREAD) * HEIGHT
        left = free_x * (0.5 + 0.5 * math.sin(turn))
        top = free_y * (0.5 + 0.5 * math.sin(2 * turn))
        cell_width, cell_height = self._cell
        room_x, room_y = cell_width - self.face_size[0], cell_height - self.face_size[1]
        for face in range(self._faces):
            row, column = divmod(face, self._columns)
            sway = turn + 2.4 * face  # neighbours are out of step: 2.4 rad is the golden angle
            x = left + column * cell_width + room_x * (0.5 + 0.5 * math.sin(sway))
            y = top + row * cell_height + room_y * (0.5 + 0.5 * math.cos(sway))
            yield Placed(int(x), int(y), face)


def _visit(number: int, comes: int, leaves: int) -> float:
    """Return how far out of view a visitor is, 0 to 1; coming and leaving take 35 frames each."""
    since_come, since_left = (number - comes) % FRAMES, (number - leaves) % FRAMES
    if since_come < since_left:  # it came after it last left
        return 1 - _smooth(since_come / 35)
    return _smooth(since_left / 35)


def _smooth(share: float) -> float:
    """Return the smoothstep of a share: 0 to 1 with zero slope at both ends."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _paste(image: NDArray[np.uint8], face: NDArray[np.uint8], x: int, y: int) -> None:
    """Copy a face into a frame; what lies outside is cut off."""
    height, width = face.shape[:2]
    left, right = max(0, x), min(image.shape[1], x + width)
    if left < right:
        image[y : y + height, left:right] = face[:, left - x : right - x]


def _grid(faces: int, aspect: float) -> tuple[int, int]:
    """Return the columns and rows for the largest tiles of an aspect (width by height)."""

    def tile_height(columns: int) -> float:
        return min(HEIGHT / math.ceil(faces / columns), WIDTH / columns / aspect)

    columns = max(range(1, faces + 1), key=tile_height)
    return columns, math.ceil(faces / columns)


def _portrait() -> NDArray[np.uint8]:
    """Return the portrait (600, 512, 3), BGR, without importing matplotlib."""
    package = importlib.util.find_spec("matplotlib")
    path = Path(package.origin).parent / PORTRAIT if package and package.origin else Path(PORTRAIT)
    image = cv2.imread(str(path))
    if image is None:
        raise UserError(f"no portrait {path}; install requirements.txt again")
    return np.asarray(image, np.uint8)


def _background() -> NDArray[np.uint8]:
    """Return a slate gradient (540, 960, 3), BGR."""
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    across = np.linspace(0, 1, WIDTH)[None, :, None]
    top, bottom, glow = np.array([74, 60, 50]), np.array([40, 32, 28]), np.array([22, 18, 12])
    shade = top * (1 - down) + bottom * down + glow * np.sin(math.pi * across)
    return np.asarray(shade, np.uint8)
