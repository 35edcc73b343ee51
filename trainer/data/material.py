"""What a training is made from: the pictures and, where there are any, the people's votes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from trainer.data.faces import SPLIT_SEED, Faces, load_for_training
from trainer.data.forms import Part
from trainer.data.votes import read_votes


@dataclass(frozen=True)
class Material:
    """`parts` of the data at `path`, and the votes (n, 10) of each part, of the file `votes_path`."""

    path: Path
    votes_path: Path | None
    parts: dict[Part, Faces]
    votes: dict[Part, NDArray[np.uint8]] | None


def read_material(path: Path, votes_path: Path | None) -> Material:
    """Read and check everything. Raises UserError for anything wrong, before anything is trained."""
    parts = load_for_training(path)
    votes = None
    if votes_path is not None:
        votes = {
            part: read_votes(votes_path, path, faces.names) for part, faces in parts.items() if len(faces)
        }
    return Material(path, votes_path, parts, votes)


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
                "train": some(material.parts["train"], fitted),
                "validation": some(material.parts["train"], held),
            },
            votes=None
            if material.votes is None
            else {
                **material.votes,
                "train": material.votes["train"][fitted],
                "validation": material.votes["train"][held],
            },
        )


def some(faces: Faces, chosen: NDArray[np.int64]) -> Faces:
    """The `chosen` of `faces`, by index."""
    return Faces(faces.pixels[chosen], faces.labels[chosen], tuple(faces.names[index] for index in chosen))
