"""Crops look like the training data wherever the square lies."""

from typing import cast

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.detect.detector import crop_face

SIDES = st.integers(1, 120)
PLACES = st.floats(-400, 400)


def smooth(width: int, height: int) -> NDArray[np.uint8]:
    """A grey picture without hard edges, BGR."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (6, 6, 1), np.uint8).repeat(3, axis=2)
    return cast(NDArray[np.uint8], cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


@given(width=SIDES, height=SIDES, x=PLACES, y=PLACES, side=st.floats(0.01, 300))
def test_any_square_over_any_frame(width: int, height: int, x: float, y: float, side: float) -> None:
    crop = crop_face(np.full((height, width, 3), 77, np.uint8), (x, y, side))
    assert crop.shape == (48, 48)
    assert crop.dtype == np.uint8
    assert np.all(crop == 77), "what is constant stays so, over the border too"


@given(x=PLACES, y=PLACES, side=st.floats(1, 300))
def test_no_grey_is_invented_at_the_border(x: float, y: float, side: float) -> None:
    """Nothing darker or lighter than the frame's pixels, but for the overshoot of cubic interpolation."""
    image = np.full((40, 50, 3), 100, np.uint8)
    image[:, 25:] = 140
    crop = crop_face(image, (x, y, side))
    assert crop.min() >= 92
    assert crop.max() <= 148


@pytest.mark.parametrize("size", [24, 36, 48, 96, 200])
def test_a_tile_comes_back(size: int) -> None:
    frame = np.full((300, 400, 3), 128, np.uint8)
    tile = smooth(size, size)
    frame[37 : 37 + size, 53 : 53 + size] = tile
    method = cv2.INTER_AREA if size > 48 else cv2.INTER_CUBIC
    expected = cv2.resize(tile[:, :, 0], (48, 48), interpolation=method)
    crop = crop_face(frame, (53.2, 36.8, size + 0.3))
    assert np.abs(crop.astype(int) - expected).mean() < 3


def test_at_the_size_of_the_training_data_pixels_are_kept() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 60, 1), np.uint8).repeat(3, axis=2)
    assert np.array_equal(crop_face(frame, (5, 7, 48)), frame[7:55, 5:53, 0])


@pytest.mark.parametrize("shape", [(64, 64), (32, 32), (64, 64, 3)])
def test_other_sizes_and_colour(shape: tuple[int, ...]) -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[:] = (255, 128, 7)
    crop = crop_face(frame, (-5, 20, 50), shape)
    assert crop.shape == shape
    expected = (7, 128, 255) if len(shape) == 3 else 106  # RGB
    assert np.all(crop == expected)


def test_colours_become_grey_as_they_weigh() -> None:
    frame = np.zeros((10, 10, 3), np.uint8)
    frame[:] = (255, 0, 0)
    assert np.all(crop_face(frame, (0, 0, 10)) == 29)  # blue weighs 0.114
