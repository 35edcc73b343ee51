"""FER2013 in three parts: which picture is for what, and the faces of a part in one array."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS, FACE_SIZE
from trainer.data.pictures import Part, Picture, csv_pictures, folder_pictures, is_csv, zip_pictures

SPLIT_SEED: Final = 2013
"""Of the tenth that is set aside where the data names no validation part. Fixed, and not the seed of a
training, so that all models are chosen and scored on the same pictures."""


@dataclass(frozen=True)
class Faces:
    """Faces with their labels.

    `pixels` (n, 48, 48, 1) uint8, `labels` (n,) int64 indices into EMOTIONS, `names` n names as in the data.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, indices: NDArray[np.int64]) -> "Faces":
        """Those at `indices`, in that order."""
        return Faces(self.pixels[indices], self.labels[indices], tuple(self.names[i] for i in indices))


def open_pictures(path: Path) -> AbstractContextManager[list[Picture]]:
    """The pictures at `path`, in whichever form they are; their `read` works within the context.

    Raises UserError for a missing path, an unknown form, a layout or label that isn't FER2013's.
    """
    try:
        there = path.exists()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected FER2013") from error
    if not there:
        raise UserError(f"{path}: no such file or folder; expected FER2013 as a folder, a zip or fer2013.csv")
    if path.is_dir():
        return folder_pictures(path)
    if is_csv(path):
        return csv_pictures(path)
    if path.suffix.lower() == ".zip":
        return zip_pictures(path)
    raise UserError(
        f"{path}: expected a folder, .zip, .csv, .csv.gz or .csv.xz, found a file named otherwise"
    )


def load(path: Path) -> dict[Part, Faces]:
    """All faces at `path`, by part; a part may be empty. Raises UserError for anything wrong with them."""
    with open_pictures(path) as pictures:
        return {part: read(members) for part, members in split(pictures, path).items()}


def load_for_training(path: Path) -> dict[Part, Faces]:
    """As `load`, and every emotion has pictures to train with and to validate on. Raises UserError."""
    parts = load(path)
    for part in ("train", "validation"):
        check_classes(parts[part], part, path)
    return parts


def load_for_scoring(path: Path, part: Part, wanted: Sequence[str] | None = None) -> Faces:
    """The faces of one part, or only the `wanted` names of it. No other picture is decoded.

    Raises UserError if the part is empty or has no picture of a wanted name.
    """
    with open_pictures(path) as pictures:
        members = split(pictures, path)
        if not members[part]:
            there = ", ".join(f"{len(group)} for {name}" for name, group in members.items() if group)
            raise UserError(
                f"{path}: expected {part} pictures, found none (it holds {there}); choose another --split"
            )
        return read(members[part] if wanted is None else select(members, part, wanted, path))


def split(pictures: Iterable[Picture], path: Path) -> dict[Part, list[Picture]]:
    """Which picture is for what: as the data says, else by folder, train/ or test/.

    Where the data has no validation part, a stratified tenth of train is set aside for it.
    """
    parts: dict[Part, list[Picture]] = {"train": [], "validation": [], "test": []}
    for picture in pictures:
        parts[picture.part or picture.folder].append(picture)
    if parts["train"] and not parts["validation"]:
        parts["train"], parts["validation"] = set_tenth_aside(parts["train"], path)
    return parts


def set_tenth_aside(pictures: list[Picture], path: Path) -> tuple[list[Picture], list[Picture]]:
    """Nine tenths and one tenth of the pictures, each emotion in proportion, the same at every call."""
    # Imported where it is used: it takes longer to load than the rest of the data's reading.
    from sklearn.model_selection import train_test_split

    labels = [picture.label for picture in pictures]
    try:
        kept, aside = train_test_split(
            range(len(pictures)), test_size=0.1, random_state=SPLIT_SEED, stratify=labels
        )
    except ValueError as error:
        raise UserError(
            f"{path}: expected enough pictures to set a tenth of train/ aside for validation, found too few "
            f"({counts(labels)}); add some, or name those for validation PublicTest_*"
        ) from error
    return [pictures[index] for index in sorted(kept)], [pictures[index] for index in sorted(aside)]


def select(
    members: dict[Part, list[Picture]], part: Part, wanted: Sequence[str], path: Path
) -> list[Picture]:
    """The pictures of `part` that are `wanted`, in the data's order, each once. Raises UserError."""
    there = {picture.name: picture for picture in members[part]}
    for name in wanted:
        if name in there:
            continue
        elsewhere = [
            other for other, group in members.items() if any(name == picture.name for picture in group)
        ]
        found = f"it among those for {elsewhere[0]}" if elsewhere else "no such picture"
        like = next(iter(there))
        raise UserError(
            f"{path}: {name}: expected a {part} picture (such as {like}), found {found}; mend --pictures"
        )
    chosen = set(wanted)
    return [picture for name, picture in there.items() if name in chosen]


def read(pictures: Sequence[Picture]) -> Faces:
    """Decode `pictures` into one array. Raises UserError naming the first bad one."""
    pixels = np.empty((len(pictures), FACE_SIZE, FACE_SIZE, 1), np.uint8)
    for index, picture in enumerate(pictures):
        pixels[index, :, :, 0] = picture.read()
    labels = np.array([picture.label for picture in pictures], np.int64)
    return Faces(pixels, labels, tuple(picture.name for picture in pictures))


def check_classes(faces: Faces, part: Part, path: Path) -> None:
    """Raise UserError unless every emotion has at least one picture in this part."""
    present = set(faces.labels.tolist())
    for label, emotion in enumerate(EMOTIONS):
        if label not in present:
            raise UserError(
                f"{path}: {part}: expected pictures of all {len(EMOTIONS)} emotions, found none of {emotion} "
                f"({counts(faces.labels.tolist())}); add some"
            )


def counts(labels: Iterable[int]) -> str:
    """How many pictures of each emotion, in words, as in "angry 3, disgust 0"."""
    number = Counter(labels)
    return ", ".join(f"{emotion} {number[label]}" for label, emotion in enumerate(EMOTIONS))


def digest(parts: dict[Part, Faces]) -> str:
    """sha256 (hex) of what a training sees: the same for the same faces, whichever form they came in."""
    total = hashlib.sha256()
    for part in ("train", "validation"):
        faces = parts[part]
        total.update(f"{part} {len(faces)}".encode())
        total.update(faces.pixels.tobytes())
        total.update(faces.labels.tobytes())
    return total.hexdigest()
