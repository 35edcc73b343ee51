"""The pictures of FER2013 in the forms in which people have it: a folder, that as a zip, or fer2013.csv."""

import csv
import difflib
import gzip
import io
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS, FACE_SIZE

Face = NDArray[np.uint8]
"""One grey face: (48, 48) uint8."""
Part = Literal["train", "validation", "test"]

PARTS: Final[dict[str, Part]] = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""FER2013's names of the parts, in the column `Usage` and as prefixes of file names, and ours."""
FOLDERS: Final[dict[str, Part]] = {"train": "train", "test": "test"}
SUFFIXES: Final = (".png", ".jpg", ".jpeg")
LAYOUT: Final = "train/<emotion>/*.png and test/<emotion>/*.png (or .jpg)"
CSV_COLUMNS: Final = ("emotion", "pixels", "Usage")
CSV_SUFFIXES: Final = (".csv", ".csv.gz", ".csv.xz")

UNPACKING_ERRORS: Final = (OSError, EOFError, zlib.error, lzma.LZMAError)
PICTURE_ERRORS: Final = (
    *UNPACKING_ERRORS,
    *(zipfile.BadZipFile, RuntimeError, NotImplementedError),
    *(SyntaxError, ValueError, Image.DecompressionBombError),
)
"""What zipfile raises for a damaged or unsupported entry, and Pillow for a file that is no whole picture."""
CSV_ERRORS: Final = (csv.Error, UnicodeDecodeError, *UNPACKING_ERRORS)
"""What reading a damaged csv raises, packed or not."""


@dataclass(frozen=True)
class Picture:
    """One picture of the data.

    `name` is like `train/angry/Training_00000.png` in every form; `label` is an index into EMOTIONS; `part`
    is the one that its prefix or `Usage` names, else that of its folder. `read` decodes the picture to
    (48, 48) uint8 or raises UserError.
    """

    name: str
    label: int
    part: Part
    read: Callable[[], Face]


@contextmanager
def open_pictures(path: Path) -> Iterator[list[Picture]]:
    """Yield the pictures at `path`, whatever its form; their `read` works within the context.

    They are sorted by file name, which in FER2013 is part and row number, so that a training does not depend
    on the form. Raises UserError for a missing path, an unknown form, layout or label, and duplicate names.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected FER2013 as a folder, a zip or fer2013.csv")
    if path.is_dir():
        yield in_order(folder_pictures(path), path)
    elif is_csv(path):
        yield in_order(csv_pictures(path), path)
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(
                f"{path}: expected a folder, a whole zip, .csv, .csv.gz or .csv.xz ({error})"
            ) from error
        with archive:
            yield in_order(zip_pictures(archive, path), path)


def in_order(pictures: Iterable[Picture], path: Path) -> list[Picture]:
    """Return `pictures` sorted by file name. Raises UserError if there are none or one name comes twice."""
    ordered = sorted(pictures, key=lambda picture: (picture.name.rsplit("/")[-1], picture.name))
    if not ordered:
        raise UserError(f"{path}: expected {LAYOUT}, found no pictures; is it FER2013?")
    for one, two in itertools.pairwise(ordered):
        if one.name == two.name:
            raise UserError(f"{path}: expected each picture once, found {one.name} twice; take one out")
    return ordered


def folder_pictures(root: Path) -> Iterator[Picture]:
    """Yield the pictures of Kaggle's folder. Raises UserError for another layout or an unknown label."""
    for folder in FOLDERS:
        for directory in visible(root / folder):
            if not directory.is_dir():
                raise misplaced(str(directory))
            label_of(directory.name, str(directory))
            for file in visible(directory):
                read = partial(decode, file.read_bytes, str(file))
                yield placed_picture(file.relative_to(root).parts, str(file), read)


def visible(directory: Path) -> list[Path]:
    """Return the entries of `directory` except what file managers leave; none if there is no such folder."""
    entries = directory.iterdir() if directory.is_dir() else ()
    return [entry for entry in entries if not is_litter(entry.name)]


def zip_pictures(archive: zipfile.ZipFile, path: Path) -> Iterator[Picture]:
    """Yield the pictures of Kaggle's folder in a zip, at its top or one level down. Raises UserError."""
    for entry in archive.infolist():
        whole = PurePosixPath(entry.filename).parts
        start = next((index for index, part in enumerate(whole[:2]) if part in FOLDERS), None)
        if start is None or any(map(is_litter, whole)):
            continue
        parts, where = whole[start:], f"{path}: {entry.filename}"
        if not entry.is_dir():
            yield placed_picture(parts, where, partial(decode, partial(archive.read, entry), where))
        elif len(parts) > 1:
            label_of(parts[1], where)


def placed_picture(parts: tuple[str, ...], where: str, read: Callable[[], Face]) -> Picture:
    """Return the picture at `parts`, as in train/angry/file.png. Raises UserError for another layout."""
    if len(parts) != 3 or not parts[2].lower().endswith(SUFFIXES):
        raise misplaced(where)
    prefix = parts[2].split("_")[0]  # as in PublicTest_28709.png
    return Picture("/".join(parts), label_of(parts[1], where), PARTS.get(prefix, FOLDERS[parts[0]]), read)


def label_of(emotion: str, where: str) -> int:
    """Return a folder's name as an index into EMOTIONS. Raises UserError if there is no such emotion."""
    if emotion in EMOTIONS:
        return EMOTIONS.index(emotion)
    near = difflib.get_close_matches(emotion.lower(), EMOTIONS, n=1)
    hint = f" (is it {near[0]}?)" if near else ""
    raise UserError(
        f"{where}: expected one of {', '.join(EMOTIONS)}, found {emotion!r}{hint}; rename the folder"
    )


def misplaced(where: str) -> UserError:
    """Return the error for a file that is not where pictures are expected."""
    return UserError(f"{where}: expected only {LAYOUT}, found something else; take it out")


def is_litter(name: str) -> bool:
    """Return whether macOS or Windows left the entry `name` in a folder or zip."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def decode(read_bytes: Callable[[], bytes], where: str) -> Face:
    """Decode a png or jpg picture of 48x48 pixels to (48, 48) uint8; colours become grey.

    `where` names the file in errors. Raises UserError if it can't be read or is damaged, no picture, or of
    another size.
    """
    try:
        with Image.open(io.BytesIO(read_bytes()), formats=("PNG", "JPEG")) as picture:
            # The size is in the header: a huge picture is refused before it is decoded.
            if picture.size != (FACE_SIZE, FACE_SIZE):
                raise UserError(
                    f"{where}: expected a picture of {FACE_SIZE}x{FACE_SIZE} pixels, as all of FER2013 are, "
                    f"found {picture.width}x{picture.height}; take it out or cut it to size"
                )
            grey: NDArray[Any] = np.array(picture.convert("L"), dtype=np.uint8)
    except PICTURE_ERRORS as error:
        raise UserError(
            f"{where}: expected a whole png or jpg picture, found a damaged one "
            f"({str(error) or 'no picture'}); replace the file or take it out"
        ) from error
    return grey


def is_csv(path: Path) -> bool:
    """Return whether `path` is named like a csv, packed or not."""
    return path.name.lower().endswith(CSV_SUFFIXES)


def open_text(path: Path) -> TextIO:
    """Open a csv as text, unpacked by its suffix."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    if path.suffix.lower() == ".xz":
        return lzma.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def csv_pictures(path: Path) -> list[Picture]:
    """Return the rows of fer2013.csv as pictures, named by part and row number as Kaggle's folder names them.

    Raises UserError for missing columns and, with the line's number, for malformed rows.
    """
    pictures: list[Picture] = []
    try:
        with open_text(path) as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            columns = reader.fieldnames or ()
            if missing := [column for column in CSV_COLUMNS if column not in columns]:
                raise UserError(
                    f"{path}: line 1: expected the columns {','.join(CSV_COLUMNS)}, "
                    f"found {','.join(columns)[:80] or 'nothing'}; add {' and '.join(missing)}"
                )
            for row, values in enumerate(reader):
                pictures.append(row_picture(values, row, f"{path}: line {reader.line_num}"))
    except CSV_ERRORS as error:
        raise UserError(
            f"{path}: damaged after {len(pictures)} rows ({error}); expected csv text, download it again"
        ) from error
    return pictures


def row_picture(values: dict[str, str | None], row: int, where: str) -> Picture:
    """Return one row of fer2013.csv as a picture. Raises UserError if it is malformed."""
    usage, emotion = (values["Usage"] or "").strip(), (values["emotion"] or "").strip()
    if usage not in PARTS:
        raise UserError(f"{where}: expected Usage to be one of {', '.join(PARTS)}, found {usage!r}")
    if emotion not in map(str, range(len(EMOTIONS))):
        raise UserError(f"{where}: expected emotion to be 0 to {len(EMOTIONS) - 1}, found {emotion[:20]!r}")
    try:
        # bytes() checks the range and is several times faster than an array made from text.
        pixels = bytes(map(int, (values["pixels"] or "").split()))
    except ValueError as error:
        raise UserError(f"{where}: expected pixels from 0 to 255, found others ({error})") from error
    if len(pixels) != FACE_SIZE * FACE_SIZE:
        raise UserError(
            f"{where}: expected {FACE_SIZE * FACE_SIZE} pixels ({FACE_SIZE}x{FACE_SIZE}), found {len(pixels)}"
        )
    face = np.frombuffer(pixels, np.uint8).reshape(FACE_SIZE, FACE_SIZE)
    folder = "train" if usage == "Training" else "test"
    name = f"{folder}/{EMOTIONS[int(emotion)]}/{usage}_{row:05d}.png"
    return Picture(name, int(emotion), PARTS[usage], lambda: face)
