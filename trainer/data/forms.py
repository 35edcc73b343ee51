"""The forms in which people have FER2013, each read as the same list of pictures.

Kaggle's folder, that folder as a zip (read in place) and `fer2013.csv` (plain, .gz, .xz). Nothing is
decoded until a picture's `read` is called, so that scoring one part doesn't read the others.
"""

import difflib
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from pipeline.emotions import EMOTIONS
from pipeline.errors import UserError
from trainer.data.pictures import Face, decode

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
