"""What the window writes over its pictures: texts in corners, and bars of the probabilities of a face."""

from collections.abc import Sequence
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.labels import EMOTIONS
from stages.display.annotate import COLOURS
from stages.display.record import FaceRecord

Image = NDArray[np.uint8]
Corner = Literal["upper left", "upper right", "lower left", "lower right", "middle"]

_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_WHITE: Final = (255, 255, 255)
_SHADE: Final = 0.35  # of a picture's brightness that is left below a text
_ROW: Final = 26  # px of a row of bars at scale 1
_BAR: Final = 110  # px of a bar of 100 % at scale 1


def text_scale(image: Image) -> float:
    """Return the font scale for texts on a canvas of this size."""
    shorter: int = min(image.shape[:2])
    return min(max(0.4, shorter / 900), 1.2)


def write(image: Image, lines: Sequence[str], corner: Corner) -> None:
    """Write lines on a darkened ground into a corner of `image`, uint8 BGR, which is changed.

    `image` may be a part of a canvas; texts that are too wide for it are cut off.
    """
    scale = text_scale(image) if min(image.shape[:2]) > 300 else 0.4
    pad, row = round(10 * scale), round(30 * scale)
    widths = [cv2.getTextSize(line, _FONT, scale, 1)[0][0] for line in lines]
    width, height = max(widths) + 2 * pad, row * len(lines) + pad
    free_x, free_y = max(0, image.shape[1] - width), max(0, image.shape[0] - height)
    x = free_x // 2 if corner == "middle" else free_x * corner.endswith("right")
    y = free_y // 2 if corner == "middle" else free_y * corner.startswith("lower")
    _darken(image, x, y, width, height)
    for number, line in enumerate(lines):
        at = (x + pad, y + row * number + round(22 * scale) + pad // 2)
        cv2.putText(image, line, at, _FONT, scale, _WHITE, 1, cv2.LINE_AA)


def draw_bars(image: Image, face: FaceRecord, corner_px: tuple[float, float], scale: float) -> None:
    """Draw a bar for each smoothed probability of a face beside `corner_px`, the box's right upper corner.

    Where there is no room the bars lie as near as there is. `image`, uint8 BGR, is changed; `scale` is the
    font scale of texts.
    """
    row, pad, bar = round(_ROW * scale), round(8 * scale), round(_BAR * scale)
    (name, _), _ = cv2.getTextSize(max(EMOTIONS, key=len) + "  ", _FONT, 0.8 * scale, 1)
    (share, _), _ = cv2.getTextSize("100% ", _FONT, 0.8 * scale, 1)
    width, height = name + bar + share + 2 * pad, row * len(EMOTIONS) + pad
    x = max(0, min(round(corner_px[0]) + pad, image.shape[1] - width))
    y = max(0, min(round(corner_px[1]), image.shape[0] - height))
    _darken(image, x, y, width, height)
    for number, emotion in enumerate(EMOTIONS):
        value = face.smoothed.probabilities[emotion]
        top, base = y + pad + row * number, y + row * (number + 1)
        left = x + pad + name
        cv2.putText(image, emotion, (x + pad, base), _FONT, 0.8 * scale, _WHITE, 1, cv2.LINE_AA)
        low = (left + round(bar * value), base + pad // 4)
        cv2.rectangle(image, (left, top), low, COLOURS[emotion], cv2.FILLED)
        figure = f"{100 * value:.0f}%"
        at = (left + bar + pad // 2, base)
        cv2.putText(image, figure, at, _FONT, 0.8 * scale, _WHITE, 1, cv2.LINE_AA)


def _darken(image: Image, x: int, y: int, width: int, height: int) -> None:
    area = image[y : y + height, x : x + width]
    area[:] = (area * _SHADE).astype(np.uint8)
