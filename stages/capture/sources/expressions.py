"""The demo's portrait with other expressions: a smooth warp of mouth, brows and eyelids."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

EXPRESSIONS: Final = ("neutral", "happy", "surprise", "sad")
"""What the shipped model says of the faces, in the order in which they are shown."""

# Parts of the face: where, and over what width and height (standard deviations of a Gaussian), in px of the
# head that demo.py cuts out of the portrait, 275×340.
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

# How far each part moves, right and down, in px: found by a random search for small movements of which the
# shipped model is sure. A face at rest is moved a little too: the model calls the portrait 70 % neutral and
# 28 % sad.
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
    """One face in all its expressions, made when they are first asked for."""

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

    The lower lip moves down by `opened` px in the middle of the mouth, the chin with it. What comes to light
    is no part of the portrait.
    """
    middle, line, half = _MOUTH
    below = y - line - np.float32(_MOUTH_SLOPE) * (x - middle)
    gap = opened * np.sqrt(np.maximum(1 - ((x - middle) / half) ** 2, 0))
    jaw = opened * np.exp(-(((x - middle) / _JAW_WIDTH) ** 2) / 2)
    moved = gap + (jaw - gap) * np.clip(below / _LIP, 0, 1)
    moved *= (0.5 + 0.5 * np.cos(np.pi * np.clip(below / _CHIN, 0, 1))) * (below > 0)
    inside = np.clip(below, 0, 1) * np.clip(gap - below, 0, 1)
    return np.asarray(y - moved, np.float32), np.asarray(inside, np.float32)
