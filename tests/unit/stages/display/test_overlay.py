"""Texts and bars over a picture."""

import numpy as np
import pytest

from pipeline.common.labels import EMOTIONS
from stages.display.drawing import COLOURS, Corner, draw_bars, write
from stages.display.record import FaceRecord, Smoothed, use_words

GREY = 200


def face(**probabilities: float) -> FaceRecord:
    values = {emotion: probabilities.get(emotion, 0.0) for emotion in EMOTIONS}
    smoothed = Smoothed("happy", values["happy"], False, values)
    return FaceRecord(1, (10.0, 10.0, 20.0, 20.0), "happy", 0.5, values, smoothed)


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("upper left", slice(0, 60), slice(0, 200)),
        ("upper right", slice(0, 60), slice(600, 800)),
        ("lower left", slice(540, 600), slice(0, 200)),
        ("lower right", slice(540, 600), slice(600, 800)),
        ("middle", slice(270, 330), slice(300, 500)),
    ],
)
def test_a_text_is_written_in_its_corner_alone(corner: Corner, rows: slice, columns: slice) -> None:
    image = np.full((600, 800, 3), GREY, np.uint8)
    write(image, ["25 frames/s"], corner)
    assert (image[rows, columns] == 255).any()
    image[rows, columns] = GREY
    assert (image == GREY).all()


def test_bars_are_as_long_as_their_probabilities() -> None:
    image = np.full((600, 800, 3), GREY, np.uint8)
    draw_bars(image, face(happy=0.9, sad=0.3), (300.0, 100.0), 1.0)

    def pixels(emotion: str) -> int:
        return int((image == COLOURS[emotion]).all(axis=2).any(axis=0).sum())

    assert pixels("happy") == pytest.approx(100, abs=2)
    assert pixels("sad") == pytest.approx(34, abs=2)


@pytest.mark.parametrize("shape", [(1, 1), (40, 30), (2, 500), (600, 800)])
def test_any_size_of_picture_and_place_of_face(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), GREY, np.uint8)
    for corner in ((-50.0, -50.0), (5000.0, 5000.0)):
        draw_bars(image, face(happy=1.0), corner, 0.5)
    write(image, ["a long text that does not fit"] * 3, "lower right")


def test_bars_cover_no_other_face_s() -> None:
    image = np.full((600, 800, 3), GREY, np.uint8)
    taken: list[tuple[int, int]] = []
    draw_bars(image, face(happy=0.9), (100.0, 100.0), 1.0, taken)
    alone = image.copy()
    draw_bars(image, face(sad=0.9), (150.0, 120.0), 1.0, taken)
    assert (image == alone).all()
    draw_bars(image, face(sad=0.9), (500.0, 100.0), 1.0, taken)
    assert (image[:, 500:] != alone[:, 500:]).any()
    assert len(taken) == 2


def test_bars_have_the_words_of_the_settings() -> None:
    plain, named = (np.full((600, 800, 3), GREY, np.uint8) for _ in range(2))
    draw_bars(plain, face(happy=0.9), (300.0, 100.0), 1.0)
    use_words({"happy": "fröhlich"})
    try:
        draw_bars(named, face(happy=0.9), (300.0, 100.0), 1.0)
    finally:
        use_words({})
    assert (plain != named).any()
