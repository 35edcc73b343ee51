"""Augmentation stays within the ranges of its settings."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.augment import as_in_video, augment, random_maps
from trainer.settings import MODELS, Augmentation, Degradation, read_settings

TUTORIAL = read_settings(MODELS / "baseline.toml").augmentation
STILL = Augmentation()


def noise(count: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 48, 1), dtype=np.uint8)


def changed(faces: NDArray[np.uint8], seed: int = 0, size: int = 48, **chosen: Any) -> NDArray[np.uint8]:
    """Faces changed with `chosen` values, keys of [augmentation] and of [degradation]."""
    moves = {key: value for key, value in chosen.items() if key in Augmentation.__struct_fields__}
    rest = {key: value for key, value in chosen.items() if key not in moves}
    return augment(faces, np.random.default_rng(seed), Augmentation(**moves), Degradation(**rest), size)


def maps(count: int = 4000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear parts (count, 2, 2) of random maps, and by how many pixels each moves the centre (count, 2)."""
    rows = random_maps(count, np.random.default_rng(0), TUTORIAL)
    assert rows.shape == (count, 2, 3)
    return rows[:, :, :2], rows @ np.array([23.5, 23.5, 1]) - 23.5


def test_centre_moves_by_at_most_the_shift() -> None:
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


def test_zoom_is_the_same_along_both_axes_and_shear_is_not() -> None:
    zoomed = random_maps(2000, np.random.default_rng(0), Augmentation(zoom=0.15))[:, :, :2]
    assert np.allclose(zoomed[:, 0, 0], zoomed[:, 1, 1])
    assert zoomed[:, 0, 0].min() == pytest.approx(0.85, abs=0.005)
    assert zoomed[:, 0, 0].max() == pytest.approx(1.15, abs=0.005)
    sheared = random_maps(2000, np.random.default_rng(0), Augmentation(shear_degrees=4.0))[:, :, :2]
    degrees = np.rad2deg(np.arcsin(-sheared[:, 0, 1]))
    assert 3.9 < degrees.max() <= 4 and -4 <= degrees.min() < -3.9
    assert np.allclose(sheared[:, :, 0], [1, 0])


def test_batch_keeps_shape_and_dtype_and_depends_on_the_seed() -> None:
    faces = noise(6)
    chosen = read_settings(MODELS / "small.toml")
    first, again, other = (
        augment(faces, np.random.default_rng(seed), chosen.augmentation, chosen.degradation)
        for seed in (5, 5, 6)
    )
    assert (first.shape, first.dtype) == (faces.shape, np.uint8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(faces, noise(6))


def test_gamma_side_light_blur_and_jpeg_change_what_they_say() -> None:
    grey = np.full((40, 48, 48, 1), 100, np.uint8)
    dark = changed(grey, gamma_share=1.0, gamma=2.0)
    assert 255 * (100 / 255) ** 2 - 1 <= dark.min() < 60 and 120 < dark.max() <= 255 * (100 / 255) ** 0.5 + 1
    assert (np.ptp(dark, axis=(1, 2, 3)) == 0).all()
    lit = changed(grey, side_light_share=1.0, side_light=0.5)
    assert lit.min() >= 50 and lit.max() <= 150 and np.ptp(lit, axis=(1, 2, 3)).max() > 50
    faces = noise(4)
    for chosen in ({"blur_share": 1.0}, {"jpeg_share": 1.0, "jpeg_quality": (10, 20)}):
        assert changed(faces, **chosen).std() < faces.std()


def test_squeezed_faces_are_narrower_and_no_others() -> None:
    settings = Augmentation(squeeze_share=0.5, squeeze=0.2)
    linear = random_maps(2000, np.random.default_rng(0), settings)[:, :, :2]
    assert (linear[:, 1, 1] == 1).all()
    assert linear[:, 0, 0].max() == pytest.approx(1 / 0.8, abs=0.01)
    assert 0.45 < (linear[:, 0, 0] == 1).mean() < 0.55


def test_faces_as_in_video_are_the_same_each_time() -> None:
    faces = noise(5)
    assert np.array_equal(as_in_video(faces), as_in_video(faces))
    assert as_in_video(faces).std() < faces.std()


def test_edges_are_extended() -> None:
    white = np.full((20, 48, 48, 1), 255, np.uint8)
    assert (augment(white, np.random.default_rng(2), TUTORIAL) == 255).all()


def test_faces_are_unchanged_without_augmentation() -> None:
    faces = noise(3)
    assert np.array_equal(changed(faces), faces)
    assert np.array_equal(changed(faces, flip_share=1.0), faces[:, :, ::-1])


def test_smaller_size_shows_the_whole_face() -> None:
    """Its corners lie at the face's corners: shrunk, not cut."""
    face = np.zeros((1, 48, 48, 1), np.uint8)
    face[0, :6, :6] = face[0, -6:, -6:] = 240
    small = changed(face, size=24)[0, :, :, 0]
    assert small.shape == (24, 24)
    expected = face[0, :, :, 0].reshape(24, 2, 24, 2).mean(axis=(1, 3))
    assert np.array_equal(small, expected)


def test_brightness_and_contrast_act_about_the_mean() -> None:
    faces = np.full((500, 48, 48, 1), 100, np.uint8)
    faces[:, :24] = 140  # mean 120
    dark = changed(faces, brightness=0.25).reshape(500, -1).astype(float)
    assert 90 <= dark.mean(axis=1).min() < 93 and 147 < dark.mean(axis=1).max() <= 150
    assert set(np.ptp(dark, axis=1)) == {40}
    flat = changed(faces, contrast=0.5).reshape(500, -1).astype(float)
    assert np.abs(flat.mean(axis=1) - 120).max() <= 1
    assert 20 <= np.ptp(flat, axis=1).min() < 23 and 57 < np.ptp(flat, axis=1).max() <= 60


def test_one_rectangle_is_erased_in_its_share_of_the_faces() -> None:
    faces = np.full((2000, 48, 48, 1), 77, np.uint8)
    touched = changed(faces, erase_share=0.4, erase_px=(8, 19))[:, :, :, 0] != 77
    hit = touched.any(axis=(1, 2))
    assert hit.mean() == pytest.approx(0.4, abs=0.04)
    for mask in touched[hit]:
        height, width = mask.any(axis=1).sum(), mask.any(axis=0).sum()
        assert min(height, width) >= 8 and max(height, width) <= 19
        assert mask.sum() == height * width
    assert touched[:, 0].any() and touched[:, -1].any()  # to the very edge


def test_erased_rectangles_shrink_with_the_faces() -> None:
    faces = np.full((50, 48, 48, 1), 77, np.uint8)
    touched = changed(faces, size=24, erase_share=1.0, erase_px=(16, 16))[:, :, :, 0] != 77
    assert set(touched.sum(axis=(1, 2))) <= {0, 64}  # 0 where the grey is the face's own
    assert touched.any()


def test_coarse_faces_lose_only_fine_detail() -> None:
    faces = noise(300)
    faces[:, :, 24:] //= 4
    coarse = changed(faces, coarse_share=0.5, coarse_px=(12, 12))
    same = (coarse == faces).all(axis=(1, 2, 3))
    assert same.mean() == pytest.approx(0.5, abs=0.1)
    one, other = coarse[~same][:, :, :, 0], faces[~same][:, :, :, 0]
    assert one[:, :, :20].std() < other[:, :, :20].std() / 2
    assert abs(one[:, :, :20].mean() - other[:, :, :20].mean()) < 2


def test_same_random_numbers_are_drawn_with_any_settings() -> None:
    """So changing one share in the settings does not change the other random numbers."""
    still, moved = np.random.default_rng(3), np.random.default_rng(3)
    augment(noise(5), still, STILL)
    lively = Augmentation(erase_share=1.0, flip_share=1.0, contrast=0.5)
    augment(noise(5), moved, lively, Degradation(coarse_share=1.0))
    assert still.random() == moved.random()
