"""FER2013 as arrays in three parts, with the votes of FER+ where they are given."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.files import sha256
from pipeline.common.labels import EMOTIONS, FACE_SIZE
from pipeline.common.progress import progress
from trainer.pictures import FER2013, Part, Picture, Reading, open_pictures
from trainer.votes import read_votes

SPLIT_SEED: Final = 2013
"""For the tenth that is set aside where the data has no validation part, and for folds. A training's seed
does not change it, so that all models are scored on the same pictures."""

TRAINING_PARTS: Final[tuple[Part, ...]] = ("train", "validation")
"""The parts that a training uses."""

Votes = dict[Part, NDArray[np.uint8]]
"""(n, 10) by part, in the order of VOTE_COLUMNS."""


@dataclass(frozen=True)
class Faces:
    """`pixels` (n, 48, 48, 1) uint8 grey, `labels` (n,) int64 of EMOTIONS, `names` as in the data."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: NDArray[np.int64]) -> "Faces":
        """Return the faces at `indices`, in that order."""
        return Faces(self.pixels[indices], self.labels[indices], tuple(self.names[i] for i in indices))


@dataclass(frozen=True)
class Dataset:
    """The `parts` of the data at `path` and the `votes` in the file `votes_path`.

    `sha256` and `votes_sha256` are those of the files when they were read; None for a folder and without
    votes. `reading` is how the pictures were read. `teacher_probs` are the teachers' predictions for train,
    (n, 7) float32 by output; `ancestors` describes for the card the models that provide weights or teach.
    """

    path: Path
    votes_path: Path | None
    parts: dict[Part, Faces]
    votes: Votes | None
    sha256: str | None
    votes_sha256: str | None
    reading: Reading = FER2013
    teacher_probs: dict[str, NDArray[np.float32]] | None = None
    ancestors: tuple[dict[str, Any], ...] = ()


def read_dataset(path: Path, votes_path: Path | None, reading: Reading = FER2013) -> Dataset:
    """Read and check all that a training needs. Raises UserError for anything wrong."""
    parts = load(path, reading)
    for part in TRAINING_PARTS:
        check_classes(parts[part], part, path)
    votes: Votes | None = None
    if votes_path is not None:
        names = [name for part in TRAINING_PARTS for name in parts[part].names]
        found = read_votes(votes_path, path, names)
        middle = len(parts["train"])
        votes = {"train": found[:middle], "validation": found[middle:]}
    return Dataset(
        path,
        votes_path,
        parts,
        votes,
        sha256=sha256(path) if path.is_file() else None,
        votes_sha256=None if votes_path is None else sha256(votes_path),
        reading=reading,
    )


def load(path: Path, reading: Reading = FER2013) -> dict[Part, Faces]:
    """Return all faces at `path` by part; a part may be empty. Raises UserError for anything wrong."""
    with open_pictures(path, reading) as pictures:
        return {part: decode_all(members) for part, members in split(pictures, path).items()}


def load_for_scoring(
    path: Path, part: Part, wanted: Sequence[str] | None = None, reading: Reading = FER2013
) -> tuple[Part, Faces]:
    """Return the part that is scored and its faces, or only the `wanted` names of it.

    That is `part`, but test for validation where there are test pictures alone; FER2013's PrivateTest is only
    scored where it is asked for. No other picture is decoded. Raises UserError if the part is empty or has no
    picture of a wanted name.
    """
    with open_pictures(path, reading) as pictures:
        private = any(PurePosixPath(picture.name).name.startswith("PrivateTest") for picture in pictures)
        if part == "validation" and not private and all(picture.part == "test" for picture in pictures):
            part = "test"
        members = split(pictures, path)
        if not members[part]:
            there = ", ".join(f"{len(group)} for {name}" for name, group in members.items() if group)
            raise UserError(
                f"{path}: expected {part} pictures, found none (it holds {there}); choose another --split"
            )
        if wanted is not None:
            members[part] = select(members, part, wanted, path)
        return part, decode_all(members[part])


def split(pictures: Iterable[Picture], path: Path) -> dict[Part, list[Picture]]:
    """Return `pictures` by part; if none are for validation, a fixed stratified tenth of train is."""
    parts: dict[Part, list[Picture]] = {"train": [], "validation": [], "test": []}
    for picture in pictures:
        parts[picture.part].append(picture)
    if parts["validation"] or not parts["train"]:
        return parts
    from sklearn.model_selection import train_test_split  # slow to import, and rarely needed

    train, labels = parts["train"], [picture.label for picture in parts["train"]]
    try:
        rows = train_test_split(range(len(train)), test_size=0.1, random_state=SPLIT_SEED, stratify=labels)
    except ValueError as error:
        raise UserError(
            f"{path}: expected enough pictures to set a tenth of train/ aside for validation, found too few "
            f"({counts(labels)}); add some, or put those for validation into validation/"
        ) from error
    parts["train"], parts["validation"] = ([train[row] for row in sorted(half)] for half in rows)
    return parts


def select(
    members: dict[Part, list[Picture]], part: Part, wanted: Sequence[str], path: Path
) -> list[Picture]:
    """Return the pictures of `part` that are `wanted`, in the data's order, each once. Raises UserError."""
    part_of = {picture.name: name for name, group in members.items() for picture in group}
    for name in wanted:
        if part_of.get(name) != part:
            found = f"it among those for {part_of[name]}" if name in part_of else "no such picture"
            raise UserError(
                f"{path}: {name}: expected a {part} picture (such as {members[part][0].name}), found {found}"
            )
    names = set(wanted)
    return [picture for picture in members[part] if picture.name in names]


def decode_all(pictures: Sequence[Picture]) -> Faces:
    """Decode `pictures` into one array. Raises UserError naming the first bad one."""
    pixels = np.empty((len(pictures), FACE_SIZE, FACE_SIZE, 1), np.uint8)
    with progress("reading pictures", len(pictures)) as advance:
        for index, picture in enumerate(pictures):
            pixels[index, :, :, 0] = picture.read()
            advance(1)
    labels = np.array([picture.label for picture in pictures], np.int64)
    return Faces(pixels, labels, tuple(picture.name for picture in pictures))


def check_classes(faces: Faces, part: Part, path: Path) -> None:
    """Raise UserError unless the part has pictures of two emotions at least."""
    if len(EMOTIONS) - len(missing_emotions(faces)) < 2:
        raise UserError(
            f"{path}: {part}: expected pictures of two emotions at least, found {len(faces)} pictures "
            f"({counts(faces.labels.tolist())}); add some"
        )


def missing_emotions(faces: Faces) -> list[str]:
    """Return the emotions of which there is no picture."""
    return [emotion for label, emotion in enumerate(EMOTIONS) if label not in faces.labels]


def counts(labels: Iterable[int]) -> str:
    """Return the number of pictures of each emotion, as in "angry 3, disgust 0"."""
    number = Counter(labels)
    return ", ".join(f"{emotion} {number[label]}" for label, emotion in enumerate(EMOTIONS))


def digest(parts: dict[Part, Faces]) -> str:
    """Return the sha256 (hex) of pixels and labels: the same for the same faces in any form."""
    total = hashlib.sha256()
    for part in TRAINING_PARTS:
        faces = parts[part]
        total.update(f"{part} {len(faces)}".encode())
        total.update(faces.pixels.tobytes())
        total.update(faces.labels.tobytes())
    return total.hexdigest()


def folds(dataset: Dataset, count: int) -> Iterator[Dataset]:
    """Yield `count` datasets, each with another stratified share of `train` as its validation part.

    The data's own validation part is in none of them. Raises UserError if an emotion has too few pictures.
    """
    from sklearn.model_selection import StratifiedKFold

    train, votes = dataset.parts["train"], dataset.votes
    fewest = min(Counter(train.labels.tolist()).values())
    if fewest < count:
        raise UserError(
            f"{dataset.path}: train: expected at least {count} pictures of each emotion for {count} folds, "
            f"found {fewest}; reduce --folds"
        )
    splitter = StratifiedKFold(count, shuffle=True, random_state=SPLIT_SEED)
    for fitted, held_out in splitter.split(train.labels, train.labels):
        rows: dict[Part, NDArray[np.int64]] = {"train": fitted, "validation": held_out}
        yield replace(
            dataset,
            parts={**dataset.parts, **{part: train.take(indices) for part, indices in rows.items()}},
            votes=votes and {part: votes["train"][indices] for part, indices in rows.items()},
        )
