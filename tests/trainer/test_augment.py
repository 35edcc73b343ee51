"""The augmentation moves faces as far as it says, and no further."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import augment


def maps(count: int = 4000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear parts (count, 2, 2) of random maps, and by how many pixels each moves the centre (count, 2)."""
    rows = augment.random_maps(count, np.random.default_rng(0)).astype(np.float64)
    assert rows.shape == (count, 8)
    assert (rows[:, 6:] == 0).all()
    rows = rows[:, :6].reshape(count, 2, 3)
    return rows[:, :, :2], rows @ np.array([23.5, 23.5, 1]) - 23.5


def test_the_centre_moves_by_at_most_the_shift() -> None:
    _, moved = maps()
    distance = np.linalg.norm(moved, axis=1)
    assert 12 < distance.max() <= np.hypot(9.6, 9.6) + 1e-3
    assert np.abs(moved.mean(axis=0)).max() < 0.5


def test_rotation_zoom_and_flip_have_their_ranges() -> None:
    linear, _ = maps()
    columns = np.linalg.norm(linear, axis=1)
    assert columns.min() == pytest.approx(0.8, abs=0.01)
    assert columns.max() == pytest.approx(1.2, abs=0.01)
    # The second column isn't flipped: its direction is the rotation, but for 0.2 degrees of shear.
    degrees = np.rad2deg(np.arctan2(-linear[:, 0, 1], linear[:, 1, 1]))
    assert 29 < np.abs(degrees).max() <= 30.2 + 1e-3
    flipped = np.linalg.det(linear) < 0
    assert 0.45 < flipped.mean() < 0.55


def test_a_batch_keeps_shape_and_type_and_follows_the_generator() -> None:
    faces = np.random.default_rng(1).integers(0, 256, (6, 48, 48, 1), dtype=np.uint8)
    first, again, other = (
        np.asarray(augment.augment(faces, np.random.default_rng(seed))) for seed in (5, 5, 6)
    )
    assert first.shape == faces.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_edges_continue_outward() -> None:
    white = np.full((20, 48, 48, 1), 255, np.uint8)
    assert (np.asarray(augment.augment(white, np.random.default_rng(2))) == 255).all()


def test_without_movement_a_face_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROTATION_DEGREES", "SHIFT", "SHEAR_DEGREES", "ZOOM", "FLIP_SHARE"):
        monkeypatch.setattr(augment, name, 0.0)
    faces = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
    assert np.array_equal(np.asarray(augment.augment(faces, np.random.default_rng(0))), faces)
    monkeypatch.setattr(augment, "FLIP_SHARE", 1.0)
    assert np.array_equal(np.asarray(augment.augment(faces, np.random.default_rng(0))), faces[:, :, ::-1])


def test_nothing_but_the_result_of_keras_is_needed() -> None:
    assert keras.ops.is_tensor(augment.augment(np.zeros((1, 48, 48, 1), np.uint8), np.random.default_rng(0)))
