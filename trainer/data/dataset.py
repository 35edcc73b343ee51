"""What a training is made from: the pictures and, where there are any, the people's votes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.files import sha256
from trainer.data.faces import SPLIT_SEED, Faces, load_for_training
from trainer.data.pictures import Part
from trainer.data.votes import read_votes

LEARNED: Final[tuple[Part, ...]] = ("train", "validation")
"""The parts that a training looks at."""


@dataclass(frozen=True)
class Material:
    """`parts` of the data at `path`, and the votes (n, 10) of each part, of the file `votes_path`.

    `sha256` and `votes_sha256` are of the files as they were read, None for a folder and without votes.
    `ancestors` are the models that training begins with or is taught by, as `trainer.card.ancestor` has them.
    """

    path: Path
    votes_path: Path | None
    parts: dict[Part, Faces]
    votes: dict[Part, NDArray[np.uint8]] | None
    sha256: str | None
    votes_sha256: str | None
    ancestors: tuple[dict[str, Any], ...] = ()


def read_material(path: Path, votes_path: Path | None) -> Material:
    """Read and check everything. Raises UserError for anything wrong, before anything is trained."""
    parts = load_for_training(path)
    votes: dict[Part, NDArray[np.uint8]] | None = None
    if votes_path is not None:
        # Not of the test part, which nothing here looks at.
        names = [name for part in LEARNED for name in parts[part].names]
        found = read_votes(votes_path, path, names)
        middle = len(parts["train"])
        votes = {"train": found[:middle], "validation": found[middle:]}
    # Now: when the training is over the files may have gone.
    return Material(
        path,
        votes_path,
        parts,
        votes,
        sha256=sha256(path) if path.is_file() else None,
        votes_sha256=None if votes_path is None else sha256(votes_path),
    )


def folds(material: Material, count: int) -> Iterator[Material]:
    """`count` materials, in each of which another stratified share of `train` is what is validated on.

    The data's own validation part is in none of them. Raises UserError if an emotion has too few pictures.
    """
    from sklearn.model_selection import StratifiedKFold

    labels = material.parts["train"].labels
    fewest = int(np.bincount(labels).min())
    if fewest < count:
        raise UserError(
            f"{material.path}: train: expected at least {count} pictures of each emotion for {count} folds, "
            f"found {fewest}; ask for fewer --folds"
        )
    splitter = StratifiedKFold(count, shuffle=True, random_state=SPLIT_SEED)
    for fitted, held in splitter.split(labels, labels):
        yield replace(
            material,
            parts={
                **material.parts,
                "train": material.parts["train"].chosen(fitted),
                "validation": material.parts["train"].chosen(held),
            },
            votes=None
            if material.votes is None
            else {
                **material.votes,
                "train": material.votes["train"][fitted],
                "validation": material.votes["train"][held],
            },
        )
