"""The pictures of FER2013 or one's own, in the forms in which people have them: a folder, a zip, a csv."""

import argparse
import csv
import difflib
import gzip
import io
import itertools
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS, FACE_SIZE

Face = NDArray[np.uint8]
"""One grey face: (48, 48) uint8."""
Part = Literal["train", "validation", "test"]

PREFIXES: Final[dict[str, Part]] = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""FER2013's names of the parts, in the column `Usage` and as prefixes of file names, and ours."""
PARTS: Final[dict[str, Part]] = {
    **{name.lower(): part for name, part in PREFIXES.items()},
    "train": "train",
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The parts by the names that folders and the column `Usage` have for them, in lower case."""
PART_NAMES: Final = "train, validation (or valid, val) and test"
SYNONYMS: Final[dict[str, str]] = {
    synonym: emotion
    for emotion, words in {
        "angry": "anger",
        "disgust": "disgusted",
        "fear": "fearful afraid scared",
        "happy": "happiness",
        "sad": "sadness",
        "surprise": "surprised suprise",
        "neutral": "neutrality",
    }.items()
    for synonym in words.split()
}
"""Other names of the seven emotions in data sets, in lower case."""

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".pgm")
FORMATS: Final = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
"""Pillow's names of their formats."""
LARGEST_PX: Final = 8192
"""Side of a picture that is resized."""
DEEPEST: Final = 8
"""Folders within folders that are looked into."""
LAYOUT: Final = "train/<emotion>/*.png, or .jpg, and validation/ and test/ likewise"
CSV_COLUMNS: Final = ("emotion", "pixels", "usage")
CSV_SUFFIXES: Final = (".csv", ".csv.gz", ".csv.xz")
SEPARATORS: Final = ",;\t|"
LONGEST_FIELD: Final = 1 << 22
"""Characters of a field of a csv: the pixels of a picture of 1,024 px."""

UNPACKING_ERRORS: Final = (OSError, EOFError, zlib.error, lzma.LZMAError)
PICTURE_ERRORS: Final = (
    *UNPACKING_ERRORS,
    *(zipfile.BadZipFile, RuntimeError, NotImplementedError),
    *(SyntaxError, ValueError, Image.DecompressionBombError),
)
"""What zipfile raises for a damaged or unsupported entry, and Pillow for a file that is no whole picture."""
CSV_ERRORS: Final = (csv.Error, UnicodeDecodeError, *UNPACKING_ERRORS)
"""What reading a damaged csv raises, packed or not."""


class Reading(NamedTuple):
    """How data is read, by the options `--labels` and `--resize`.

    `labels` are the emotions that numbers stand for, in order. With `resize`, pictures of other sizes are
    accepted: their middle square is made 48x48.
    """

    labels: tuple[str, ...] = ()
    resize: bool = False


FER2013: Final = Reading()


def reading_of(args: argparse.Namespace) -> Reading:
    """Return the reading of the options. Raises UserError for an unknown emotion in `--labels`."""
    return Reading(emotions_named(args.labels or ()), args.resize)


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


class File(NamedTuple):
    """A file of a folder or zip: its path there, its name for errors, and a function that reads its bytes."""

    parts: tuple[str, ...]
    where: str
    read: Callable[[], bytes]

    @property
    def is_picture(self) -> bool:
        """Whether it is named like a picture."""
        return self.parts[-1].lower().endswith(SUFFIXES)


@contextmanager
def open_pictures(path: Path, reading: Reading = FER2013) -> Iterator[list[Picture]]:
    """Yield the pictures at `path`, whatever its form; their `read` works within the context.

    They are sorted by file name, which in FER2013 is part and row number, so that a training does not depend
    on the form. Raises UserError for a missing path, an unknown form, layout or label, and duplicate names.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected FER2013 as a folder, a zip or fer2013.csv")
    if path.is_dir():
        yield in_order(placed_pictures(folder_files(path), path, reading), path)
    elif is_csv(path):
        yield in_order(csv_pictures(path, reading), path)
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(
                f"{path}: expected a folder, a whole zip, .csv, .csv.gz or .csv.xz ({error})"
            ) from error
        with archive:
            yield in_order(placed_pictures(zip_files(archive, path), path, reading), path)


def in_order(pictures: Iterable[Picture], path: Path) -> list[Picture]:
    """Return `pictures` sorted by file name. Raises UserError if there are none or one name comes twice."""
    ordered = sorted(pictures, key=lambda picture: (picture.name.rsplit("/")[-1], picture.name))
    if not ordered:
        raise UserError(f"{path}: expected {LAYOUT}, found no pictures; is it FER2013?")
    for one, two in itertools.pairwise(ordered):
        if one.name == two.name:
            raise UserError(f"{path}: expected each picture once, found {one.name} twice; take one out")
    return ordered


def folder_files(root: Path) -> Iterator[File]:
    """Yield the files in `root`, at any depth, without those of file managers. Raises OSError."""

    def fail(error: OSError) -> None:
        raise error

    for directory, folders, names in os.walk(root, onerror=fail, followlinks=True):
        below = Path(directory).relative_to(root).parts
        folders[:] = [name for name in folders if not is_litter(name) and len(below) < DEEPEST]
        for name in names:
            if not is_litter(name):
                file = Path(directory, name)
                yield File((*below, name), str(file), file.read_bytes)


def zip_files(archive: zipfile.ZipFile, path: Path) -> Iterator[File]:
    """Yield the files of a zip, without those of file managers."""
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        if not entry.is_dir() and not any(map(is_litter, parts)):
            yield File(parts, f"{path}: {entry.filename}", partial(archive.read, entry))


def placed_pictures(files: Iterable[File], path: Path, reading: Reading) -> Iterator[Picture]:
    """Yield the pictures among `files`, in folders by part and emotion, or by emotion alone: all for train.

    Raises UserError for another layout, an unknown part and an unknown emotion.
    """
    files = list(files)
    pictures = [file for file in files if file.is_picture and len(file.parts) > 1]
    # The part is the folder above the emotion's: one further up may have the name of a part as well.
    placed = [file for file in pictures if len(file.parts) > 2 and part_of(file.parts[-3])]
    depth = 3 if placed else 2
    placed = placed or pictures
    tops = sorted({file.parts[:-depth] for file in placed})
    if len(tops) > 1:
        one, two = ("/".join(top) or "." for top in tops[:2])
        raise UserError(
            f"{path}: expected folders named {PART_NAMES}, in one place, found pictures in {one} and in "
            f"{two}; rename them, or give one of them alone"
        )
    top = tops[0] if tops else ()
    folders = {file.parts[-depth] for file in placed}
    numbers = numbered((file.parts[-2] for file in placed), reading)
    for file in files:
        rest = file.parts[len(top) :] if file.parts[: len(top)] == top else file.parts
        if len(rest) == 1 or (not file.is_picture and rest[0] not in folders):
            continue  # a file beside the folders, such as a README
        named = part_of(rest[0]) if depth == 3 else "train"
        if named is None:
            raise UserError(
                f"{file.where}: expected folders named {PART_NAMES}, found {rest[0]!r}; "
                "rename it or take it out"
            )
        if not file.is_picture or len(rest) != depth:
            raise UserError(f"{file.where}: expected only {LAYOUT}, found something else; take it out")
        prefix = rest[-1].split("_")[0]  # as in PublicTest_28709.png
        part = named if named == "validation" else PREFIXES.get(prefix, named)
        read = partial(decode, file.read, file.where, reading.resize)
        yield Picture("/".join(rest), label_of(rest[-2], numbers, file.where), part, read)


def part_of(name: str) -> Part | None:
    """Return the part that a folder or `Usage` names; None if it is none."""
    return PARTS.get(name.lower())


def emotion_of(name: str) -> str | None:
    """Return the emotion that a data set calls `name`; None if it is none of the seven."""
    word = name.strip().lower()
    return word if word in EMOTIONS else SYNONYMS.get(word)


def emotions_named(words: Sequence[str], others: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the emotions of `--labels`, given as words or with commas between; "" for the names in `others`.

    Raises UserError for other names, and for an emotion that is given twice.
    """
    names = [name.strip() for name in ",".join(words).split(",") if name.strip()]
    for name in names:
        if emotion_of(name) is None and name.lower() not in others:
            raise unknown_emotion("--labels", name, ", or ".join(["name one of these", *others[:2]]))
    known = [emotion for name in names if (emotion := emotion_of(name))]
    if len(set(known)) < len(known):
        raise UserError(f"--labels: expected each emotion once, found {', '.join(names)}")
    return tuple(emotion_of(name) or "" for name in names)


def numbered(names: Iterable[str], reading: Reading) -> dict[int, str]:
    """Return the emotions by number, of `reading`; they count from 0 if one of `names` is 0, else from 1."""
    from_zero = any(name.isdecimal() and int(name) == 0 for name in names)
    return dict(enumerate(reading.labels, 0 if from_zero else 1))


def label_of(name: str, numbers: Mapping[int, str], where: str) -> int:
    """Return the name of a folder or row as an index into EMOTIONS. Raises UserError if it is no emotion."""
    emotion = numbers.get(int(name)) if name.isdecimal() else emotion_of(name)
    if emotion is not None:
        return EMOTIONS.index(emotion)
    if not name.isdecimal():
        raise unknown_emotion(where, name, "rename it or take it out")
    if numbers:
        raise UserError(
            f"{where}: expected the name of an emotion, or numbers from {min(numbers)} to {max(numbers)}, "
            f"found {name}; --labels says what other numbers stand for"
        )
    raise UserError(
        f"{where}: expected the name of an emotion, found the number {name}; say what the numbers stand for, "
        f"in their order: --labels {' '.join(EMOTIONS)} (or another order)"
    )


def unknown_emotion(where: str, name: str, advice: str) -> UserError:
    """Return the error for a name that is none of the seven emotions'."""
    near = difflib.get_close_matches(name.lower(), [*EMOTIONS, *SYNONYMS], n=1)
    hint = f" (is it {near[0]}?)" if near else ""
    return UserError(f"{where}: expected one of {', '.join(EMOTIONS)}, found {name!r}{hint}; {advice}")


def is_litter(name: str) -> bool:
    """Return whether macOS or Windows left the entry `name` in a folder or zip."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def decode(read_bytes: Callable[[], bytes], where: str, resize: bool) -> Face:
    """Decode a picture of 48x48 pixels, with `resize` of any size, to (48, 48) uint8; colours become grey.

    `where` names the file in errors. Raises UserError if it can't be read or is damaged, no picture, or of
    another size.
    """
    try:
        with Image.open(io.BytesIO(read_bytes()), formats=FORMATS) as picture:
            # The size is in the header: a huge picture is refused before it is decoded.
            check_size(picture.size, where, resize)
            upright = ImageOps.exif_transpose(picture) if resize else picture
            grey = upright.convert("L")
            face = grey if grey.size == (FACE_SIZE, FACE_SIZE) else middle_square(grey)
            return np.array(face, dtype=np.uint8)
    except PICTURE_ERRORS as error:
        raise UserError(
            f"{where}: expected a whole png or jpg picture, found a damaged one "
            f"({str(error) or 'no picture'}); replace the file or take it out"
        ) from error


def check_size(size: tuple[int, int], where: str, resize: bool) -> None:
    """Raise UserError unless pictures of this size are accepted."""
    found = f"found {size[0]}x{size[1]}"
    if resize and max(size) > LARGEST_PX:
        raise UserError(f"{where}: expected a picture of at most {LARGEST_PX} pixels a side, {found}")
    if not resize and size != (FACE_SIZE, FACE_SIZE):
        raise UserError(
            f"{where}: expected a picture of {FACE_SIZE}x{FACE_SIZE} pixels, as all of FER2013 are, {found}; "
            "add --resize to convert all, or take it out"
        )


def middle_square(grey: Image.Image) -> Image.Image:
    """Return the middle square of a picture as one of 48x48 pixels."""
    return ImageOps.fit(grey, (FACE_SIZE, FACE_SIZE), Image.Resampling.BICUBIC)


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


def csv_pictures(path: Path, reading: Reading) -> list[Picture]:
    """Return the rows of a csv as pictures, named by part and row number as Kaggle's folder names them.

    The separator is the one that the first line has; without the column Usage all rows are for train. Raises
    UserError for missing columns and, with the line's number, for malformed rows.
    """
    rows: list[tuple[dict[str, str], str]] = []
    csv.field_size_limit(LONGEST_FIELD)
    try:
        with open_text(path) as text:
            header = text.readline(LONGEST_FIELD)
            separator = max(SEPARATORS, key=header.count)
            columns = [name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])]
            if missing := [column for column in CSV_COLUMNS[:2] if column not in columns]:
                raise UserError(
                    f"{path}: line 1: expected the columns {','.join(CSV_COLUMNS)}, "
                    f"found {','.join(columns)[:80] or 'nothing'}; add {' and '.join(missing)}"
                )
            reader = csv.DictReader(text, columns, delimiter=separator, skipinitialspace=True, restval="")
            for values in reader:
                rows.append((values, f"{path}: line {reader.line_num + 1}"))
    except CSV_ERRORS as error:
        raise UserError(
            f"{path}: damaged after {len(rows)} rows ({error}); expected csv text, download it again"
        ) from error
    # FER2013's own numbers count from 0, whether it has one or not.
    names = (values["emotion"].strip() for values, _ in rows)
    numbers = numbered(names, reading) if reading.labels else dict(enumerate(EMOTIONS))
    return [row_picture(values, row, numbers, reading, where) for row, (values, where) in enumerate(rows)]


def row_picture(
    values: Mapping[str, str], row: int, numbers: Mapping[int, str], reading: Reading, where: str
) -> Picture:
    """Return one row of a csv as a picture. Raises UserError if it is malformed."""
    usage = values.get("usage", "train").strip()
    part = part_of(usage)
    if part is None:
        raise UserError(
            f"{where}: expected Usage to be one of {', '.join(PREFIXES)} or train, validation, test, "
            f"found {usage[:20]!r}"
        )
    label = label_of(values["emotion"].strip()[:20], numbers, where)
    try:
        # bytes() checks the range and is several times faster than an array made from text.
        pixels = bytes(map(int, values["pixels"].split()))
    except ValueError as error:
        raise UserError(f"{where}: expected pixels from 0 to 255, found others ({error})") from error
    side = math.isqrt(len(pixels))
    if len(pixels) != FACE_SIZE**2 and not (reading.resize and side and side**2 == len(pixels)):
        raise UserError(
            f"{where}: expected {FACE_SIZE * FACE_SIZE} pixels ({FACE_SIZE}x{FACE_SIZE}), "
            f"found {len(pixels)}; add --resize if they are other squares"
        )
    face = np.frombuffer(pixels, np.uint8).reshape(side, side)
    if side != FACE_SIZE:
        face = np.array(middle_square(Image.fromarray(face)))
    folder = "train" if part == "train" else "test"
    prefix = next(name for name, one in PREFIXES.items() if one == part)
    name = f"{folder}/{EMOTIONS[label]}/{prefix}_{row:05d}.png"
    return Picture(name, label, part, lambda: face)
