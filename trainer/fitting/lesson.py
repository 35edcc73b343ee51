"""The data of one training: faces, what they teach, and what validation compares with."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.faces import Faces, digest
from trainer.data.forms import Part
from trainer.data.votes import majority
from trainer.fitting.targets import Probabilities, Targets, make_targets, show_something
from trainer.settings import Settings

Votes = dict[Part, NDArray[np.uint8]]
"""(n, 10) by part, in the order of VOTE_COLUMNS."""


@dataclass(frozen=True)
class Lesson:
    """`train` without pictures that show nothing, with their `targets`; `validation` whole.

    `consensus` (n,) int64 is the people's majority on the validation faces, -1 where there is none or no
    votes were given. `sha256` is of all that training sees.
    """

    train: Faces
    targets: Targets
    validation: Faces
    consensus: NDArray[np.int64]
    sha256: str


def make_lesson(
    settings: Settings, parts: dict[Part, Faces], votes: Votes | None, taught: Probabilities | None = None
) -> Lesson:
    """Make the lesson of `settings` from the data; `taught` as `make_targets` has it, of all of train."""
    train, validation = parts["train"], parts["validation"]
    total = hashlib.sha256(digest(parts).encode())
    if votes is not None:
        for part in ("train", "validation"):
            total.update(votes[part].tobytes())
    targets = make_targets(settings, train, None if votes is None else votes["train"], taught)
    kept = np.flatnonzero(show_something(train))
    return Lesson(
        train=train.chosen(kept),
        targets=targets.chosen(kept),
        validation=validation,
        consensus=np.full(len(validation), -1) if votes is None else majority(votes["validation"]),
        sha256=total.hexdigest(),
    )
