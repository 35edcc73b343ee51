"""What is drawn: faces on a frame, what the window writes over it, and several pictures in one.

OpenCV's letters are those of ASCII alone. Words that have others are drawn by Pillow in the DejaVu Sans that
matplotlib ships, which has Latin, Greek, Cyrillic and more.
"""

import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from pipeline.common.labels import EMOTIONS
from stages.display.record import Box, FaceRecord, short_label, word_for

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

FONT: Final = cv2.FONT_HERSHEY_DUPLEX
PX_AT_SCALE_1: Final = 29
"""Size of DejaVu Sans whose capitals are as high as those of FONT at scale 1, px."""

DEJAVU: Final = "mpl-data/fonts/ttf/DejaVuSans.ttf"


def text_size(text: str, scale: float) -> tuple[tuple[int, int], int]:
    """Return width and height above the baseline, and depth below it, px, as cv2.getTextSize does."""
    if text.isascii():
        (width, height), below = cv2.getTextSize(text, FONT, scale, stroke_px(scale))
        return (width, height), below
    font = _font(scale)
    _, below = font.getmetrics()
    return (round(font.getlength(text)), round(22 * scale)), below


def put_text(image: Image, text: str, at: tuple[int, int], scale: float, colour: Colour) -> None:
    """Write into an image, uint8 BGR (height, width, 3). at: left end of the baseline, px; colour: BGR."""
    if text.isascii():
        cv2.putText(image, text, at, FONT, scale, colour, stroke_px(scale), cv2.LINE_AA)
        return
    picture = Picture.fromarray(np.ascontiguousarray(image))  # BGR as if it were RGB, and so is the colour
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


COLOURS: Final[dict[str, Colour]] = {
    "angry": (0, 94, 213),
    "disgust": (115, 158, 0),
    "fear": (167, 121, 204),
    "happy": (66, 228, 240),
    "sad": (178, 114, 0),
    "surprise": (233, 180, 86),
    "neutral": (225, 225, 225),
}
"""BGR. Okabe and Ito's palette, which people with any colour vision can tell apart."""

UNCERTAIN: Final = (160, 160, 160)
"""BGR of an uncertain emotion: darker than neutral."""

_SMALLEST: Final = 0.3  # font scale: capitals of about 7 px, the smallest that can be read
_LARGEST: Final = 1 / 600  # font scale for each pixel of the frame's shorter side
_BLACK: Final = (0, 0, 0)
_WHITE: Final = (255, 255, 255)


class _Label(NamedTuple):
    text: str
    scale: float
    x: int  # of the background's left upper corner, px
    y: int
    width: int
    height: int
    baseline: int  # from the upper edge, px


def draw_faces(image: Image, faces: Sequence[FaceRecord]) -> None:
    """Draw the faces of a frame into `image`, uint8 BGR (height, width, 3), which is changed.

    Labels are drawn over all boxes. In a crowd, labels that would overlap have no confidence; large faces are
    placed first.
    """
    ordered = sorted(faces, key=lambda face: -face.box[2] * face.box[3])
    thickness = line_px(image)
    for face in ordered:
        _draw_box(image, face.box, colour_of(face), thickness)
    labels: list[_Label] = []
    for face in ordered:
        short = short_label(face)
        text = short if face.smoothed.uncertain else f"{short} {100 * face.smoothed.confidence:.0f}%"
        label = _place(image, face, text, _scale(image, face, text), thickness)
        if any(_touch(label, other) for other in labels):
            label = _place(image, face, short, label.scale, thickness)
        labels.append(label)
    for face, label in zip(reversed(ordered), reversed(labels), strict=True):
        _draw_label(image, label, colour_of(face))


def colour_of(face: FaceRecord) -> Colour:
    """Return the colour of a face's box and label, BGR."""
    return UNCERTAIN if face.smoothed.uncertain else COLOURS[face.smoothed.emotion]


def line_px(image: Image) -> int:
    """Return the thickness of a box's line on a frame of this size, px."""
    shorter: int = min(image.shape[:2])
    return max(1, round(shorter / 270))


def mirrored(face: FaceRecord, width: int) -> FaceRecord:
    """Return the face as in the mirror image of a frame that is `width` px wide."""
    x, y, w, h = face.box
    return msgspec.structs.replace(face, box=(width - x - w, y, w, h))


def _draw_box(image: Image, box: Box, colour: Colour, thickness: int) -> None:
    x, y, width, height = box
    low, high = (round(x), round(y)), (round(x + width), round(y + height))
    # The dark rim makes a light box visible on a light picture.
    cv2.rectangle(image, low, high, _BLACK, thickness + 2)
    cv2.rectangle(image, low, high, colour, thickness)


def _touch(a: _Label, b: _Label) -> bool:
    across = a.x < b.x + b.width and b.x < a.x + a.width
    return across and a.y < b.y + b.height and b.y < a.y + a.height


def _scale(image: Image, face: FaceRecord, text: str) -> float:
    """Return the font scale that makes the text about as wide as the face, within limits."""
    (unit_width, _), _ = text_size(text, 1.0)
    shorter: int = min(image.shape[:2])
    return min(max(_SMALLEST, 1.2 * face.box[2] / unit_width), max(_SMALLEST, shorter * _LARGEST))


def _place(image: Image, face: FaceRecord, text: str, scale: float, thickness: int) -> _Label:
    """Return the label above the face's box, moved into the frame where necessary."""
    frame_height, frame_width = image.shape[:2]
    x, y, _, _ = face.box
    (text_width, text_height), below = text_size(text, scale)
    pad = max(2, round(text_height / 4))
    label_width, label_height = text_width + 2 * pad, text_height + below // 2 + 2 * pad
    left = round(x) - thickness // 2 - 1
    top = round(y) - label_height - thickness // 2
    return _Label(
        text,
        scale,
        x=max(0, min(left, frame_width - label_width)),
        y=max(0, min(top, frame_height - label_height)),
        width=label_width,
        height=label_height,
        baseline=pad + text_height,
    )


def _draw_label(image: Image, label: _Label, colour: Colour) -> None:
    pad = (label.height - label.baseline) // 2 + 1
    area = image[label.y : label.y + label.height, label.x : label.x + label.width]
    area[:] = colour
    blue, green, red = colour
    text_colour = _BLACK if 0.114 * blue + 0.587 * green + 0.299 * red > 110 else _WHITE
    at = (pad, label.baseline)
    put_text(area, label.text, at, label.scale, text_colour)


Corner = Literal["upper left", "upper right", "lower left", "lower right", "middle"]

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
    width, height = max(_width(line, scale) for line in lines) + 2 * pad, row * len(lines) + pad
    free_x, free_y = max(0, image.shape[1] - width), max(0, image.shape[0] - height)
    x = free_x // 2 if corner == "middle" else free_x * corner.endswith("right")
    y = free_y // 2 if corner == "middle" else free_y * corner.startswith("lower")
    ground = _darkened(image, x, y, width, height)
    for number, line in enumerate(lines):
        put_text(ground, line, (pad, row * number + round(22 * scale) + pad // 2), scale, _WHITE)


def draw_bars(
    image: Image,
    face: FaceRecord,
    corner_px: tuple[float, float],
    scale: float,
    taken: list[tuple[int, int]] | None = None,
) -> None:
    """Draw a bar for each smoothed probability of a face, as near to `corner_px` as there is room.

    `corner_px` is the box's right upper corner, `scale` the font scale; `image`, uint8 BGR, is changed.
    `taken` has the places of the bars of other faces: what would cover them is left out, else it is added.
    """
    row, pad, bar, small = round(_ROW * scale), round(8 * scale), round(_BAR * scale), 0.8 * scale
    name = max(_width(word_for(emotion) + "  ", small) for emotion in EMOTIONS)
    width, height = name + bar + _width("100% ", small) + 2 * pad, row * len(EMOTIONS) + pad
    x = max(0, min(round(corner_px[0]) + pad, image.shape[1] - width))
    y = max(0, min(round(corner_px[1]), image.shape[0] - height))
    if taken is not None:
        if any(abs(x - left) < width and abs(y - top) < height for left, top in taken):
            return
        taken.append((x, y))
    ground, left = _darkened(image, x, y, width, height), pad + name
    for number, emotion in enumerate(EMOTIONS):
        value = face.smoothed.probabilities[emotion]
        top, base = pad + row * number, row * (number + 1)
        put_text(ground, word_for(emotion), (pad, base), small, _WHITE)
        low = (left + round(bar * value), base + pad // 4)
        ground[top : low[1] + 1, left : low[0] + 1] = COLOURS[emotion]
        put_text(ground, f"{100 * value:.0f}%", (left + bar + pad // 2, base), small, _WHITE)


def _width(text: str, scale: float) -> int:
    return text_size(text, scale)[0][0]


def _darkened(image: Image, x: int, y: int, width: int, height: int) -> Image:
    """Darken a part of an image, and return that part."""
    area = image[y : y + height, x : x + width]
    area[:] = (area * _SHADE).astype(np.uint8)
    return area


CANVAS: Final = (1280, 720)
"""Width and height of a picture of several tiles, px, and of the largest new window, to fit on any screen."""

EMPTY: Final = (40, 32, 28)  # BGR


class Tile(NamedTuple):
    """A picture's place: its left upper corner and size on the canvas, px, and how much it is enlarged."""

    x: int
    y: int
    width: int
    height: int
    scale: float

    def inside(self, x: float, y: float) -> tuple[float, float] | None:
        """Return the point of the picture, px, at a point of the canvas; None if that is outside the tile."""
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
    """Return one picture of all, uint8 BGR, and the tile of each; the cell of an absent one stays empty.

    A single picture keeps its size.
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
        tile = fit_into(canvas[y : y + height, x : x + width], image)
        tiles.append(tile._replace(x=x + tile.x, y=y + tile.y))
    return canvas, tiles


def fit_into(canvas: Image, image: Image) -> Tile:
    """Copy an image into the middle of `canvas`, as large as fits; both uint8 BGR (h, w, 3)."""
    height, width = canvas.shape[:2]
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=method)
    return Tile(left, top, *size, scale)
