"""The data of one training: faces, what they teach, and what validation compares with."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
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
    """Make the lesson of `settings` from the data; `taught` as `make_targets` has it, of all of train.

    Raises UserError if there is nothing that an output could be taught or validated by.
    """
    train, validation = parts["train"], parts["validation"]
    total = hashlib.sha256(digest(parts).encode())
    if votes is not None:
        for part in ("train", "validation"):
            total.update(votes[part].tobytes())
    people = np.full(len(validation), -1) if votes is None else majority(votes["validation"])
    if "consensus" in settings.network.outputs and votes is not None and not (people >= 0).any():
        raise UserError(
            "network.outputs: consensus is validated on pictures on which most people agree, found none of "
            "validation in --votes; give the votes of all parts, or leave it out with --outputs fer2013"
        )
    targets = make_targets(settings, train, None if votes is None else votes["train"], taught)
    kept = np.flatnonzero(show_something(train))
    return Lesson(
        train=train.chosen(kept),
        targets=targets.chosen(kept),
        validation=validation,
        consensus=people,
        sha256=total.hexdigest(),
    )
