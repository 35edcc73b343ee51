"""FER2013 as its original release has it: `fer2013.csv`, plain, .gz or .xz."""

import csv
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

import numpy as np

from pipeline.emotions import EMOTIONS, FACE_SIZE
from pipeline.errors import UserError
from trainer.data.forms import PARTS, Folder, Picture, in_order
from trainer.data.pictures import Face

COLUMNS: Final = ("emotion", "pixels", "Usage")
ENDINGS: Final = (".csv", ".csv.gz", ".csv.xz")
BROKEN: Final = (csv.Error, UnicodeDecodeError, OSError, EOFError, zlib.error, lzma.LZMAError)


def is_csv(path: Path) -> bool:
    """Whether the name of `path` is that of a csv, packed or not."""
    return path.name.lower().endswith(ENDINGS)


@contextmanager
def csv_pictures(path: Path) -> Iterator[list[Picture]]:
    """The csv's rows as pictures, named by part and row number as Kaggle's folder names them.

    Raises UserError, with the line's number, for missing columns and malformed rows.
    """
    found = []
    try:
        with open_text(path) as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            check_columns(reader.fieldnames or (), path)
            for row, values in enumerate(reader):
                found.append(picture(values, row, f"{path}: line {reader.line_num}"))
    except BROKEN as error:
        raise UserError(
            f"{path}: expected whole csv text, found it damaged after {len(found)} rows ({error}); "
            "fetch it anew"
        ) from error
    yield in_order(found, path)


def open_text(path: Path) -> TextIO:
    """Open `path` as text, unpacked by its ending."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    if path.suffix.lower() == ".xz":
        return lzma.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def check_columns(found: object, path: Path) -> None:
    """Raise UserError unless all COLUMNS are there; others don't disturb."""
    names = list(found) if isinstance(found, (list, tuple)) else []
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise UserError(
            f"{path}: line 1: expected the columns {','.join(COLUMNS)}, "
            f"found {','.join(names)[:80] or 'nothing'}; add {' and '.join(missing)}"
        )


def picture(values: dict[str, str | None], row: int, where: str) -> Picture:
    """One row of the csv as a picture. Raises UserError if it is malformed."""
    usage = (values["Usage"] or "").strip()
    if usage not in PARTS:
        raise UserError(
            f"{where}: expected Usage to be one of {', '.join(PARTS)}, found {usage!r}; mend the row"
        )
    label = label_of(values["emotion"] or "", where)
    face = face_of(values["pixels"] or "", where)
    folder: Folder = "train" if usage == "Training" else "test"
    name = f"{folder}/{EMOTIONS[label]}/{usage}_{row:05d}.png"
    return Picture(name, label, folder, PARTS[usage], lambda: face)


def label_of(text: str, where: str) -> int:
    """The column `emotion` as an index into EMOTIONS. Raises UserError."""
    if text.strip() in map(str, range(len(EMOTIONS))):
        return int(text)
    raise UserError(
        f"{where}: expected emotion to be 0 to {len(EMOTIONS) - 1}, found {text[:20]!r}; mend the row"
    )


def face_of(text: str, where: str) -> Face:
    """The column `pixels`, 2,304 numbers from 0 to 255, as (48, 48) uint8. Raises UserError."""
    try:
        # bytes() checks the range and is several times faster than an array made of text.
        pixels = bytes(map(int, text.split()))
    except ValueError as error:
        raise UserError(
            f"{where}: expected pixels from 0 to 255, found others ({error}); mend the row"
        ) from error
    if len(pixels) != FACE_SIZE * FACE_SIZE:
        raise UserError(
            f"{where}: expected {FACE_SIZE * FACE_SIZE} pixels ({FACE_SIZE}x{FACE_SIZE}), "
            f"found {len(pixels)}; mend or take out the row"
        )
    return np.frombuffer(pixels, np.uint8).reshape(FACE_SIZE, FACE_SIZE)
