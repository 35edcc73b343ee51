"""A video in which it is known when each face changes its expression: tiles of a mosaic, spliced."""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError

Image = NDArray[np.uint8]

FPS: Final = 25
HOLD: Final = 50
"""Frames that each face is held: two seconds."""

JITTER_PX: Final = 1.5
NOISE: Final = 4.0
"""A held face sways by so much and gets noise of so many grey levels (standard deviation), as before a
camera: a still picture would have the same probabilities in every frame."""

SEED: Final = 0


class Change(NamedTuple):
    """A face that is replaced by one with another label, at the same place."""

    frame: int  # the first with the new face
    place_px: tuple[float, float]  # centre of the tile
    old: str
    new: str


def write_splice(mosaic: Path, path: Path, faces: int) -> list[Change]:
    """Write a lossless video at `path` whose tiles each show `faces` faces in turn; return the changes.

    `mosaic` is the video whose tiles are taken, with its labels beside it as .json; only those with a label
    that most people agree on are. Tiles change at different times. Raises UserError if the mosaic can't be
    read.
    """
    layout, labelled = _read_tiles(mosaic)
    tiles = _places(layout)
    rng = np.random.default_rng(SEED)
    sequences = [_draw(labelled, faces, rng) for _ in tiles]
    offsets = [HOLD * index // len(tiles) for index in range(len(tiles))]
    side = layout["tile"]
    shape = (
        layout["rows"] * (side + layout["gap"]) + layout["gap"],
        layout["cols"] * (side + layout["gap"]) + layout["gap"],
        3,
    )
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "bgr0"
        for number in range(HOLD * faces):
            image = np.full(shape, 128, np.uint8)
            for (x, y), offset, sequence in zip(tiles, offsets, sequences, strict=True):
                face, _ = sequence[min((number + offset) // HOLD, faces - 1)]
                image[y : y + side, x : x + side] = _as_filmed(face, rng)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return [
        Change(HOLD * step - offset, (x + side / 2, y + side / 2), sequence[step - 1][1], sequence[step][1])
        for (x, y), offset, sequence in zip(tiles, offsets, sequences, strict=True)
        for step in range(1, faces)
    ]


def _read_tiles(mosaic: Path) -> tuple[dict[str, Any], list[tuple[Image, str]]]:
    """Return the layout, and the tiles, uint8 BGR, that have a consensus, with that."""
    try:
        layout = json.loads(mosaic.with_suffix(".json").read_text())
        with av.open(mosaic) as container:
            frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError, ValueError) as error:
        raise UserError(f"{mosaic}: can't be read with its .json: {error}") from error
    side, labelled = layout["tile"], []
    for image, labels in zip(frames, layout["consensus"], strict=True):
        for (x, y), label in zip(_places(layout), labels, strict=True):
            if label is not None:
                labelled.append((np.asarray(image[y : y + side, x : x + side], np.uint8).copy(), label))
    return layout, labelled


def _places(layout: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the left upper corners of the tiles, px."""
    step, gap = layout["tile"] + layout["gap"], layout["gap"]
    return [(gap + step * c, gap + step * r) for r in range(layout["rows"]) for c in range(layout["cols"])]


def _draw(labelled: list[tuple[Image, str]], faces: int, rng: np.random.Generator) -> list[tuple[Image, str]]:
    """Return faces of which no two in a row have the same label; emotions are drawn alike, then faces."""
    emotions = sorted({label for _, label in labelled})
    drawn: list[tuple[Image, str]] = []
    while len(drawn) < faces:
        emotion = str(rng.choice([e for e in emotions if not drawn or e != drawn[-1][1]]))
        choices = [index for index, (_, label) in enumerate(labelled) if label == emotion]
        drawn.append(labelled[int(rng.choice(choices))])
    return drawn


def _as_filmed(face: Image, rng: np.random.Generator) -> Image:
    dx, dy = rng.uniform(-JITTER_PX, JITTER_PX, 2)
    moved = cv2.warpAffine(
        face,
        np.array([[1, 0, dx], [0, 1, dy]], np.float32),
        (face.shape[1], face.shape[0]),
        borderMode=cv2.BORDER_REFLECT,
    )
    noise = rng.normal(0, NOISE, face.shape[:2])[..., None]
    return np.asarray(np.clip(moved + noise, 0, 255), np.uint8)
