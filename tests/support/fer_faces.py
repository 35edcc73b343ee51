"""Made-up FER2013 in all its forms, the same faces in each."""

import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.common.labels import EMOTIONS, FACE_SIZE


@dataclass(frozen=True)
class Row:
    """One picture: `usage` as in fer2013.csv, `face` (48, 48) uint8, `number` its row."""

    number: int
    usage: str
    emotion: str
    face: NDArray[np.uint8]

    @property
    def name(self) -> str:
        folder = "train" if self.usage == "Training" else "test"
        return f"{folder}/{self.emotion}/{self.usage}_{self.number:05d}.png"


def rows(training: int = 4, public: int = 2, private: int = 0, seed: int = 1) -> list[Row]:
    """So many pictures of each emotion: noise, with a bright bar whose place is the emotion's."""
    rng = np.random.default_rng(seed)
    made: list[Row] = []
    for usage, count in (("Training", training), ("PublicTest", public), ("PrivateTest", private)):
        for _ in range(count):
            for label, emotion in enumerate(EMOTIONS):
                face = rng.integers(0, 150, (FACE_SIZE, FACE_SIZE), dtype=np.uint8)
                face[6 * label : 6 * label + 6] = 250
                made.append(Row(len(made), usage, emotion, face))
    return made


def picture(pixels: NDArray[np.uint8], form: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form, quality=95)
    return content.getvalue()


def write_folder(root: Path, made: Sequence[Row]) -> Path:
    for row in made:
        write_file(root / row.name, picture(row.face))
    return root


def write_file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_zip(path: Path, made: Sequence[Row], below: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in made:
            archive.writestr(below + row.name, picture(row.face))
    return path


PACKERS: dict[str, Callable[[bytes], bytes]] = {".csv": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def write_csv(path: Path, made: Sequence[Row]) -> Path:
    lines = ["emotion,pixels,Usage"]
    for row in made:
        pixels = " ".join(map(str, row.face.ravel().tolist()))
        lines.append(f"{EMOTIONS.index(row.emotion)},{pixels},{row.usage}")
    path.write_bytes(PACKERS[path.suffix]("\n".join([*lines, ""]).encode()))
    return path
