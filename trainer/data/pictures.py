"""One picture file, as bytes, becomes one checked face."""

import csv
import difflib
import gzip
import io
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
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

# What Pillow raises for a file that is cut off, damaged or no picture at all.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def decode(content: bytes, where: str) -> Face:
    """Decode a png or jpg picture of 48×48 pixels; colours become grey.

    `where` names the file in errors. Returns (48, 48) uint8.
    Raises UserError if it is no picture, is damaged or has another size.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            # The size stands in the header: a huge picture is refused before it is decoded.
            check_size(picture.size, where)
            grey: NDArray[Any] = np.array(picture.convert("L"), dtype=np.uint8)
    except BROKEN as error:
        raise UserError(
            f"{where}: expected a whole png or jpg picture, found a damaged one "
            f"({str(error) or 'no picture'}); replace the file or take it out"
        ) from error
    return grey


def check_size(size: tuple[int, int], where: str) -> None:
    """Raise UserError unless `size` (width, height in pixels) is that of a face."""
    if size != (FACE_SIZE, FACE_SIZE):
        raise UserError(
            f"{where}: expected a picture of {FACE_SIZE}x{FACE_SIZE} pixels, found {size[0]}x{size[1]}; "
            "FER2013's pictures all have that size: take it out or cut it to size"
        )


# ---- The forms in which people have FER2013, each read as the same list of pictures.


Folder = Literal["train", "test"]
Part = Literal["train", "validation", "test"]

FOLDERS: Final[tuple[Folder, ...]] = ("train", "test")
PARTS: Final[dict[str, Part]] = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""What FER2013 calls its parts, in the column `Usage` and in front of file names, and what they are here."""

SUFFIXES: Final = (".png", ".jpg", ".jpeg")
UNPACKING: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, NotImplementedError),
)
"""What unpacking a damaged or unknown entry of a zip raises."""
LAYOUT: Final = "train/<emotion>/*.png and test/<emotion>/*.png (or .jpg)"


@dataclass(frozen=True)
class Picture:
    """One picture of the data.

    `name` is like `train/angry/Training_00000.png` whatever the form; `label` an index into EMOTIONS; `part`
    what the data says it is for, None where it doesn't; `read` decodes it to (48, 48) uint8 or raises
    UserError.
    """

    name: str
    label: int
    folder: Folder
    part: Part | None
    read: Callable[[], Face]


@contextmanager
def folder_pictures(root: Path) -> Iterator[list[Picture]]:
    """Kaggle's folder. Raises UserError for another layout or an unknown label."""
    found = []
    for file in sorted(files_of(root)):
        picture = place(file.relative_to(root).parts, str(file), partial(read_file, file))
        found.append(picture)
    yield in_order(found, root)


def files_of(root: Path) -> Iterator[Path]:
    """Files two levels below train/ and test/; an unexpected entry on the way raises UserError."""
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            continue
        for directory in visible(root / folder):
            if not directory.is_dir():
                raise misplaced(str(directory))
            label_of(directory.name, str(directory))
            yield from visible(directory)


def visible(directory: Path) -> Iterator[Path]:
    """What is in `directory`, without what file managers leave behind."""
    return (entry for entry in directory.iterdir() if not is_litter(entry.name))


@contextmanager
def zip_pictures(path: Path) -> Iterator[list[Picture]]:
    """Kaggle's folder as a zip, also one level down. Raises UserError as `folder_pictures` does."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path}: expected a zip, found something else or a cut-off one ({error}); fetch it anew"
        ) from error
    with archive:
        found = []
        for entry in archive.infolist():
            parts = below_folder(PurePosixPath(entry.filename).parts)
            where = f"{path}: {entry.filename}"
            if not parts or any(is_litter(part) for part in PurePosixPath(entry.filename).parts):
                continue
            if entry.is_dir():
                if len(parts) > 1:
                    label_of(parts[1], where)
                continue
            found.append(place(parts, where, partial(read_entry, archive, entry, where)))
        yield in_order(found, path)


def below_folder(parts: tuple[str, ...]) -> tuple[str, ...]:
    """`parts` from train or test on, at the top or one folder down; empty if neither is there."""
    for start in (0, 1):
        if parts[start : start + 1] and parts[start] in FOLDERS:
            return parts[start:]
    return ()


def place(parts: tuple[str, ...], where: str, read: Callable[[], Face]) -> Picture:
    """The picture at train/angry/file.png, given as its `parts`. Raises UserError for another layout."""
    if len(parts) != 3 or not parts[2].lower().endswith(SUFFIXES):
        raise misplaced(where)
    folder: Folder = "train" if parts[0] == "train" else "test"
    return Picture("/".join(parts), label_of(parts[1], where), folder, part_of(parts[2]), read)


def part_of(file_name: str) -> Part | None:
    """The part that a file name's prefix says, as in PublicTest_28709.png; None where it says nothing."""
    return PARTS.get(file_name.split("_")[0])


def label_of(emotion: str, where: str) -> int:
    """Index into EMOTIONS of a folder's name. Raises UserError if there is no such emotion."""
    if emotion in EMOTIONS:
        return EMOTIONS.index(emotion)
    near = difflib.get_close_matches(emotion.lower(), EMOTIONS, n=1)
    hint = f" (is it {near[0]}?)" if near else ""
    raise UserError(
        f"{where}: expected one of {', '.join(EMOTIONS)}, found {emotion!r}{hint}; rename the folder"
    )


def misplaced(where: str) -> UserError:
    """The error for what is no picture in a folder of an emotion."""
    return UserError(f"{where}: expected only {LAYOUT}, found something else; take it out")


def is_litter(name: str) -> bool:
    """Whether `name` is what macOS and Windows leave in folders and zips, rather than data."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def in_order(found: Sequence[Picture], path: Path) -> list[Picture]:
    """`found` in one order for every form: by file name, which in FER2013 is part and row number.

    Without it the same seed would train another network from a zip than from the csv.
    Raises UserError if there is nothing or one name comes twice.
    """
    if not found:
        raise UserError(f"{path}: expected {LAYOUT}, found no pictures; is it FER2013?")
    ordered = sorted(found, key=lambda picture: (picture.name.rsplit("/")[-1], picture.name))
    for one, two in itertools.pairwise(ordered):
        if one.name == two.name:
            raise UserError(f"{path}: expected each picture once, found {one.name} twice; take one out")
    return ordered


def read_file(file: Path) -> Face:
    """Decode one picture of a folder. Raises UserError."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a picture") from error
    return decode(content, str(file))


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> Face:
    """Decode one picture of a zip. Raises UserError."""
    try:
        content = archive.read(entry)
    except UNPACKING as error:
        raise UserError(
            f"{where}: cannot be unpacked ({error}); expected a whole picture; fetch the zip anew"
        ) from error
    return decode(content, where)


# ---- FER2013 as its original release has it: `fer2013.csv`, plain, .gz or .xz.


COLUMNS: Final = ("emotion", "pixels", "Usage")
ENDINGS: Final = (".csv", ".csv.gz", ".csv.xz")
BROKEN_CSV: Final = (csv.Error, UnicodeDecodeError, OSError, EOFError, zlib.error, lzma.LZMAError)


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
    except BROKEN_CSV as error:
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
    label = label_of_number(values["emotion"] or "", where)
    face = face_of(values["pixels"] or "", where)
    folder: Folder = "train" if usage == "Training" else "test"
    name = f"{folder}/{EMOTIONS[label]}/{usage}_{row:05d}.png"
    return Picture(name, label, folder, PARTS[usage], lambda: face)


def label_of_number(text: str, where: str) -> int:
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
