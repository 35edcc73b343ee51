"""Boxes, emotions and confidences, drawn on a frame."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from stages.display.lettering import put_text, text_size, word_for
from stages.display.record import Box, FaceRecord

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

COLOURS: Final[dict[str, Colour]] = {
    "angry": (0, 94, 213),
    "disgust": (115, 158, 0),
    "fear": (167, 121, 204),
    "happy": (66, 228, 240),
    "sad": (178, 114, 0),
    "surprise": (233, 180, 86),
    "neutral": (225, 225, 225),
}
"""BGR. Okabe and Ito's palette, which people with any colour vision tell apart; the word always stands there
too."""

UNCERTAIN: Final = (160, 160, 160)
"""BGR, of a face whose emotion is uncertain: darker than neutral."""

_SMALLEST: Final = 0.3  # font scale: capitals of about 7 px, the least that can be read
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

    Labels lie over the boxes, so that no box crosses a text. Where a crowd leaves no room for a whole label,
    it is the emotion alone; large faces, the nearest ones, are served first.
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


def short_label(face: FaceRecord) -> str:
    """Return the emotion that is shown for a face, or that it is uncertain."""
    return word_for("uncertain" if face.smoothed.uncertain else face.smoothed.emotion)


def colour_of(face: FaceRecord) -> Colour:
    """Return the colour of a face's box and label, BGR."""
    return UNCERTAIN if face.smoothed.uncertain else COLOURS[face.smoothed.emotion]


def line_px(image: Image) -> int:
    """Return how thick a box's line is on a frame of this size, px."""
    shorter: int = min(image.shape[:2])
    return max(1, round(shorter / 270))


def mirrored(face: FaceRecord, width: int) -> FaceRecord:
    """Return the face as it stands in the mirror image of a frame that is `width` px wide."""
    x, y, w, h = face.box
    return msgspec.structs.replace(face, box=(width - x - w, y, w, h))


def _draw_box(image: Image, box: Box, colour: Colour, thickness: int) -> None:
    x, y, width, height = box
    low, high = (round(x), round(y)), (round(x + width), round(y + height))
    # The dark rim keeps a light box visible on a light picture. Upright lines need no antialiasing.
    cv2.rectangle(image, low, high, _BLACK, thickness + 2)
    cv2.rectangle(image, low, high, colour, thickness)


def _touch(a: _Label, b: _Label) -> bool:
    across = a.x < b.x + b.width and b.x < a.x + a.width
    return across and a.y < b.y + b.height and b.y < a.y + a.height


def _scale(image: Image, face: FaceRecord, text: str) -> float:
    """Return the font scale that makes the text about as wide as the face, within what can be read."""
    (unit_width, _), _ = text_size(text, 1.0)
    shorter: int = min(image.shape[:2])
    return min(max(_SMALLEST, 1.2 * face.box[2] / unit_width), max(_SMALLEST, shorter * _LARGEST))


def _place(image: Image, face: FaceRecord, text: str, scale: float, thickness: int) -> _Label:
    """Return the label above the face's box, moved as far as it takes to lie inside the frame."""
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
