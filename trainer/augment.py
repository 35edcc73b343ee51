"""Random changes of a batch of faces.

Rotation, shift, shear, zoom, flip and the resizing of a training on smaller faces are one affine map per
face, so that each is resampled once; coarse faces are resized before that. NumPy and OpenCV compute it, so
the result is the same with every Keras backend.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.labels import FACE_SIZE
from trainer.settings import Augmentation, Degradation

TURNED: Final = Augmentation(squeeze_share=0.25)
"""How a video shows turned heads: narrower."""
VIDEO: Final = Degradation(
    coarse_share=1.0,
    coarse_px=(20, 40),
    gamma_share=0.5,
    side_light_share=0.5,
    blur_share=0.25,
    jpeg_share=0.5,
)
"""What a video does to faces: small, dark or pale, lit from a side, blurred, compressed."""
UNTOUCHED: Final = Degradation()
VIDEO_SEED: Final = 2013


def augment(
    pixels: NDArray[np.uint8],
    rng: np.random.Generator,
    settings: Augmentation,
    degradation: Degradation = UNTOUCHED,
    size: int = FACE_SIZE,
) -> NDArray[np.uint8]:
    """Return each face of a batch changed at random by `rng`; edges are extended outward.

    `pixels` (n, 48, 48, 1) uint8 stays as it is. Returns (n, size, size, 1) uint8.
    """
    count = len(pixels)
    maps = random_maps(count, rng, settings, size)
    hit = rng.random(count) < degradation.coarse_share
    coarse = np.where(hit, rng.integers(*degradation.coarse_px, count, endpoint=True), 0)
    moved = np.empty((count, size, size), np.uint8)
    for face, target, matrix, narrow in zip(pixels[:, :, :, 0], moved, maps, coarse.tolist(), strict=True):
        cv2.warpAffine(
            make_coarse(face, narrow) if narrow else face,
            matrix,
            (size, size),
            dst=target,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    lit = relight(moved, rng, settings)
    light(lit, rng, degradation)
    record(lit, rng, degradation)
    erase(lit, rng, settings, size / FACE_SIZE)
    return lit[:, :, :, None]


def as_in_video(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return faces (n, 48, 48, 1) uint8 as TURNED and VIDEO change them, always in the same way."""
    return augment(pixels, np.random.default_rng(VIDEO_SEED), TURNED, VIDEO)


def make_coarse(face: NDArray[np.uint8], narrow: int) -> NDArray[np.uint8]:
    """Return a face as if it were `narrow` pixels wide in a video, resized as crops in stages/detect are."""
    small = cv2.resize(face, (narrow, narrow), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_CUBIC), np.uint8)


def random_maps(
    count: int, rng: np.random.Generator, settings: Augmentation, size: int = FACE_SIZE
) -> NDArray[np.float64]:
    """Return random affine maps from a pixel of the result to its source in the face, (count, 2, 3) float64.

    They are composed about the centre in the order of Keras's ImageDataGenerator, which the tutorial used:
    rotation, shift, shear, zoom, flip. As in cv2.warpAffine, in pixels:
    x' = m00 x + m01 y + m02, y' = m10 x + m11 y + m12.
    """
    angle = np.deg2rad(rng.uniform(-settings.rotation_degrees, settings.rotation_degrees, count))
    shift_px = rng.uniform(-settings.shift, settings.shift, (count, 2)) * FACE_SIZE
    shear = np.deg2rad(rng.uniform(-settings.shear_degrees, settings.shear_degrees, count))
    zoom = rng.uniform(1 - settings.stretch, 1 + settings.stretch, (count, 2))
    zoom = zoom * rng.uniform(1 - settings.zoom, 1 + settings.zoom, (count, 1))
    flip = np.where(rng.random(count) < settings.flip_share, -1.0, 1.0)
    if settings.squeeze_share:
        hit = rng.random(count) < settings.squeeze_share
        zoom[:, 0] /= np.where(hit, rng.uniform(1 - settings.squeeze, 1, count), 1)

    rotation = matrices([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ones, zeros = np.ones(count), np.zeros(count)
    sheared = matrices([[ones, -np.sin(shear)], [zeros, np.cos(shear)]])
    zoomed = matrices([[zoom[:, 0] * flip, zeros], [zeros, zoom[:, 1]]])

    linear = rotation @ sheared @ zoomed * (FACE_SIZE / size)
    centre, target_centre = np.full(2, (FACE_SIZE - 1) / 2), np.full(2, (size - 1) / 2)
    offset = (rotation @ shift_px[:, :, None])[:, :, 0] + centre - linear @ target_centre
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def matrices(rows: list[list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Return (count, 2, 2) from two rows of two arrays of (count,)."""
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def relight(faces: NDArray[np.uint8], rng: np.random.Generator, settings: Augmentation) -> NDArray[np.uint8]:
    """Return `faces` (n, h, w) uint8 with other brightness and contrast."""
    mean = faces.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    shape = (len(faces), 1, 1)
    contrast = rng.uniform(1 - settings.contrast, 1 + settings.contrast, shape).astype(np.float32)
    brightness = rng.uniform(1 - settings.brightness, 1 + settings.brightness, shape).astype(np.float32)
    lit = (faces - mean) * contrast + mean * brightness
    return np.asarray(np.rint(lit.clip(0, 255)), np.uint8)


def light(faces: NDArray[np.uint8], rng: np.random.Generator, settings: Degradation) -> None:
    """Change the exposure of some of the `faces` (n, h, w), and light some from a side, in place.

    Nothing is drawn where there is no such setting, so that trainings without them stay the same.
    """
    count, size = len(faces), faces.shape[1]
    if settings.gamma_share:
        hit = rng.random(count) < settings.gamma_share
        powers = np.exp(rng.uniform(-1, 1, count) * np.log(settings.gamma))
        greys = np.linspace(0, 1, 256)
        for index in np.flatnonzero(hit):
            faces[index] = np.rint(255 * greys ** powers[index]).astype(np.uint8)[faces[index]]
    if settings.side_light_share:
        hit = rng.random(count) < settings.side_light_share
        angles, strengths = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, settings.side_light, count)
        across = np.linspace(-1, 1, size, dtype=np.float32)
        for index in np.flatnonzero(hit):
            ramp = np.cos(angles[index]) * across + np.sin(angles[index]) * across[:, None]
            lit = faces[index] * (1 + strengths[index] * ramp.clip(-1, 1))
            faces[index] = np.rint(lit.clip(0, 255))


def record(faces: NDArray[np.uint8], rng: np.random.Generator, settings: Degradation) -> None:
    """Blur some of the `faces` (n, h, w), and compress some as JPEG, in place."""
    count = len(faces)
    if settings.blur_share:
        hit = rng.random(count) < settings.blur_share
        widths = rng.uniform(*settings.blur_px, count)
        for index in np.flatnonzero(hit):
            faces[index] = cv2.GaussianBlur(faces[index], (0, 0), widths[index])
    if settings.jpeg_share:
        hit = rng.random(count) < settings.jpeg_share
        qualities = rng.integers(*settings.jpeg_quality, count, endpoint=True)
        for index in np.flatnonzero(hit):
            _, packed = cv2.imencode(".jpg", faces[index], [cv2.IMWRITE_JPEG_QUALITY, int(qualities[index])])
            faces[index] = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)


def erase(faces: NDArray[np.uint8], rng: np.random.Generator, settings: Augmentation, scale: float) -> None:
    """Paint a rectangle of one random grey over some of the `faces` (n, h, w), in place (Zhong et al. 2017).

    scale: size of the faces relative to 48 pixels, to which the rectangle's sides refer.
    """
    count, size = len(faces), faces.shape[1]
    hit = rng.random(count) < settings.erase_share
    sides = np.rint(rng.integers(*settings.erase_px, (count, 2), endpoint=True) * scale).astype(int)
    corners = np.floor(rng.random((count, 2)) * (size + 1 - sides)).astype(int)
    greys = rng.integers(0, 256, count)
    for index in np.flatnonzero(hit):
        (top, left), (height, width) = corners[index], sides[index]
        faces[index, top : top + height, left : left + width] = greys[index]
