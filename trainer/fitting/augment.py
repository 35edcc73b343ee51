"""Random changes of faces, for a whole batch at once.

Rotation, shift, shear, zoom and flip are composed into one affine map per face, with the change of size that
a training on smaller faces asks for, and resampled once; faces to be made coarse are resized before that. The
random numbers come from numpy and the resampling is OpenCV's, so that they depend on nothing but the seed,
the epoch and the step, whichever backend trains.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.labels import FACE_SIZE
from trainer.settings import Augmentation


def augment(
    pixels: NDArray[np.uint8], rng: np.random.Generator, chosen: Augmentation, size: int = FACE_SIZE
) -> NDArray[np.uint8]:
    """Each face of a batch changed at random by `rng`; edges continue outward.

    `pixels` (n, 48, 48, 1) uint8, not changed. Returns (n, size, size, 1) uint8: rounded, since uint8 faces
    are all that the model will be given.
    """
    count = len(pixels)
    maps = random_maps(count, rng, chosen, size)
    coarse = np.where(
        rng.random(count) < chosen.coarse_share, rng.integers(*between(chosen.coarse_px), count), 0
    )
    moved = np.empty((count, size, size), np.uint8)
    for face, target, matrix, narrow in zip(pixels[:, :, :, 0], moved, maps, coarse.tolist(), strict=True):
        source = coarsened(face, narrow) if narrow else face
        cv2.warpAffine(
            source,
            matrix,
            (size, size),
            dst=target,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    lit = relight(moved, rng, chosen)
    erase(lit, rng, chosen, size / FACE_SIZE)
    return lit[:, :, :, None]


def between(bounds: tuple[int, int]) -> tuple[int, int]:
    """Inclusive bounds as `Generator.integers` takes them."""
    return bounds[0], bounds[1] + 1


def coarsened(face: NDArray[np.uint8], narrow: int) -> NDArray[np.uint8]:
    """A face as if it had been `narrow` pixels wide in the video, resized as stages/detect/crop.py does."""
    small = cv2.resize(face, (narrow, narrow), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_CUBIC), np.uint8)


def random_maps(
    count: int, rng: np.random.Generator, chosen: Augmentation, size: int = FACE_SIZE
) -> NDArray[np.float64]:
    """`count` random affine maps from a pixel of the result to where it comes from in the face.

    Composed about the centre in the order of Keras's ImageDataGenerator, which the tutorial used: rotation,
    shift, shear, zoom, flip. Returns (count, 2, 3) float64, as cv2.warpAffine has them, in pixels:
    x' = m00 x + m01 y + m02, y' = m10 x + m11 y + m12.
    """
    angle = np.deg2rad(rng.uniform(-chosen.rotation_degrees, chosen.rotation_degrees, count))
    shift_px = rng.uniform(-chosen.shift, chosen.shift, (count, 2)) * FACE_SIZE
    shear = np.deg2rad(rng.uniform(-chosen.shear_degrees, chosen.shear_degrees, count))
    zoom = rng.uniform(1 - chosen.stretch, 1 + chosen.stretch, (count, 2))
    zoom = zoom * rng.uniform(1 - chosen.zoom, 1 + chosen.zoom, (count, 1))
    flip = np.where(rng.random(count) < chosen.flip_share, -1.0, 1.0)

    rotation = matrices([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    one, nought = np.ones(count), np.zeros(count)
    sheared = matrices([[one, -np.sin(shear)], [nought, np.cos(shear)]])
    zoomed = matrices([[zoom[:, 0] * flip, nought], [nought, zoom[:, 1]]])

    linear = rotation @ sheared @ zoomed * (FACE_SIZE / size)
    centre, target_centre = np.full(2, (FACE_SIZE - 1) / 2), np.full(2, (size - 1) / 2)
    offset = (rotation @ shift_px[:, :, None])[:, :, 0] + centre - linear @ target_centre
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def matrices(rows: list[list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """(count, 2, 2) from two rows of two arrays of (count,)."""
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def relight(faces: NDArray[np.uint8], rng: np.random.Generator, chosen: Augmentation) -> NDArray[np.uint8]:
    """Faces (n, h, w) uint8 with other brightness and contrast."""
    mean = faces.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    shape = (len(faces), 1, 1)
    contrast = rng.uniform(1 - chosen.contrast, 1 + chosen.contrast, shape).astype(np.float32)
    brightness = rng.uniform(1 - chosen.brightness, 1 + chosen.brightness, shape).astype(np.float32)
    lit = (faces - mean) * contrast + mean * brightness
    return np.asarray(np.rint(lit.clip(0, 255)), np.uint8)


def erase(faces: NDArray[np.uint8], rng: np.random.Generator, chosen: Augmentation, scale: float) -> None:
    """Paint a rectangle of one random grey over some of the `faces` (n, h, w), in place (Zhong et al. 2017).

    scale: of the faces against 48 pixels, in which the rectangle's sides are given.
    """
    count, size = len(faces), faces.shape[1]
    picked = rng.random(count) < chosen.erase_share
    sides = np.rint(rng.integers(*between(chosen.erase_px), (count, 2)) * scale).astype(int)
    corners = np.floor(rng.random((count, 2)) * (size + 1 - sides)).astype(int)
    greys = rng.integers(0, 256, count)
    for index in np.flatnonzero(picked):
        (top, left), (height, width) = corners[index], sides[index]
        faces[index, top : top + height, left : left + width] = greys[index]
