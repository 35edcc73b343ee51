"""Emotions in other languages: measured and drawn, letters beyond ASCII too."""

from collections.abc import Iterator

import numpy as np
import pytest

from stages.display.drawing import draw_faces, put_text, text_size
from stages.display.record import FaceRecord, Smoothed, use_words, word_for

GERMAN = {"happy": "fröhlich", "sad": "traurig", "fear": "  ", "angry": "wütend\n!"}


@pytest.fixture(autouse=True)
def _words() -> Iterator[None]:
    use_words(GERMAN)
    yield
    use_words({})


def test_what_is_left_out_keeps_its_name() -> None:
    names = ("happy", "neutral", "fear", "angry")
    assert [word_for(name) for name in names] == ["fröhlich", "neutral", "fear", "wütend !"]


@pytest.mark.parametrize("text", ["happy 93%", "fröhlich 93%", "счастье 93%", "χαρά"])
@pytest.mark.parametrize("scale", [0.3, 0.8, 2.0])
def test_text_lies_within_its_size(text: str, scale: float) -> None:
    (width, height), below = text_size(text, scale)
    image = np.zeros((height + below + 40, width + 40, 3), np.uint8)
    put_text(image, text, (20, 20 + height), scale, (0, 255, 255))
    rows, columns = np.nonzero(image.any(axis=2))
    slack = 2 + round(4 * scale)  # of letters with dots, and of antialiasing
    assert 20 - slack <= rows.min() and rows.max() < 20 + height + below + slack
    assert 20 - slack <= columns.min() and columns.max() < 20 + width + slack
    assert not image[..., 0].any()  # BGR
    assert height / 2 < rows.max() - rows.min()


def test_a_face_is_drawn_with_its_word() -> None:
    values = "happy", 0.9, False, {"happy": 0.9}
    face = FaceRecord(1, (60.0, 60.0, 80.0, 90.0), "happy", 0.9, {"happy": 0.9}, Smoothed(*values))
    images = []
    for words in ({}, GERMAN, {"happy": "joy"}):
        use_words(words)
        images.append(np.full((200, 300, 3), 40, np.uint8))
        draw_faces(images[-1], [face])
    assert not any(np.array_equal(images[0], image) for image in images[1:])
