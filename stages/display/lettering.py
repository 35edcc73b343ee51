"""Text in pictures, in the words that the settings give for the emotions.

OpenCV's letters are those of ASCII alone. Other text is drawn by Pillow in the DejaVu Sans that matplotlib
ships, which has Latin, Greek, Cyrillic and more.
"""

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

FONT: Final = cv2.FONT_HERSHEY_DUPLEX
PX_AT_SCALE_1: Final = 29
"""Size of DejaVu Sans whose capitals are as high as those of FONT at scale 1, px."""

DEJAVU: Final = "mpl-data/fonts/ttf/DejaVuSans.ttf"

_words: dict[str, str] = {}


def use_words(words: Mapping[str, str]) -> None:
    """Call emotions so in all pictures of this process; what is left out, or empty, keeps its name."""
    _words.clear()
    _words.update({name: " ".join(word.split()) for name, word in words.items() if word.strip()})


def word_for(name: str) -> str:
    """Return what an emotion, or `uncertain`, is called."""
    return _words.get(name, name)


def text_size(text: str, scale: float) -> tuple[tuple[int, int], int]:
    """Return width and height above the baseline, and depth below it, px, as cv2.getTextSize does."""
    if text.isascii():
        (width, height), below = cv2.getTextSize(text, FONT, scale, stroke_px(scale))
        return (width, height), below
    font = _font(scale)
    _, below = font.getmetrics()
    return (round(font.getlength(text)), round(22 * scale)), below


def put_text(image: NDArray[np.uint8], text: str, at: tuple[int, int], scale: float, colour: Colour) -> None:
    """Write into an image, uint8 BGR (height, width, 3). at: left end of the baseline, px; colour: BGR."""
    if text.isascii():
        cv2.putText(image, text, at, FONT, scale, colour, stroke_px(scale), cv2.LINE_AA)
        return
    picture = Image.fromarray(np.ascontiguousarray(image))  # BGR as if it were RGB, and so is the colour
    ImageDraw.Draw(picture).text(at, text, font=_font(scale), fill=colour, anchor="ls")
    image[:] = np.asarray(picture)


def stroke_px(scale: float) -> int:
    return max(1, round(scale))


@functools.lru_cache(maxsize=64)
def _font(scale: float) -> ImageFont.FreeTypeFont:
    """Return the font; found without loading matplotlib, which requirements.txt has."""
    package = importlib.util.find_spec("matplotlib")
    assert package is not None and package.origin is not None
    size = max(6, round(PX_AT_SCALE_1 * scale))
    return ImageFont.truetype(str(Path(package.origin).parent / DEJAVU), size)
