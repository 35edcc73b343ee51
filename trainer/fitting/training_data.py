"""The data of one training: faces, what they teach, and what validation compares with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from trainer.card import read_card
from trainer.data.faces import Faces, digest
from trainer.data.pictures import Part
from trainer.data.votes import distribution, majority
from trainer.scoring.network import check_outputs, load_model, predictions
from trainer.settings import Adjustment, Settings

Probabilities = dict[str, NDArray[np.float32]]
"""(n, 7) float32 by output, rows adding up to 1."""


class Targets(msgspec.Struct, frozen=True):
    """`wanted` (n, 7) float32 by output, and `weights` (n,) float32 by output."""

    wanted: Probabilities
    weights: dict[str, NDArray[np.float32]]

    def chosen(self, indices: NDArray[np.int64]) -> "Targets":
        """Those of the pictures at `indices`, in that order."""
        return Targets(
            {name: values[indices] for name, values in self.wanted.items()},
            {name: values[indices] for name, values in self.weights.items()},
        )


def make_targets(
    settings: Settings, faces: Faces, votes: NDArray[np.uint8] | None, taught: Probabilities | None
) -> Targets:
    """The targets of `faces`, given their `votes` (n, 10) and, if they are `taught`, what teachers say.

    FER2013's labels are smoothed (Szegedy et al. 2016); the consensus is the distribution of the votes, and
    pictures with too few of them have weight 0 unless a teacher says what to make of them.
    """
    fitting = settings.fitting
    smooth = np.eye(len(EMOTIONS), dtype=np.float32)[faces.labels] * (1 - fitting.label_smoothing)
    wanted = {"fer2013": smooth + np.float32(fitting.label_smoothing / len(EMOTIONS))}
    weights = {"fer2013": np.ones(len(faces), np.float32)}
    if "consensus" in settings.network.outputs:
        if votes is None:
            raise UserError("network.outputs: consensus is taught by votes; give --votes, or leave it out")
        shares, enough = distribution(votes, fitting.fewest_votes)
        wanted["consensus"], weights["consensus"] = shares, enough.astype(np.float32)
        if taught is None and not enough.any():
            raise UserError(
                "network.outputs: consensus is taught by training pictures with "
                f"{fitting.fewest_votes} votes or more for the seven emotions, found none; "
                "give other --votes, lower fitting.fewest_votes, or leave it out with --outputs fer2013"
            )
    if taught is not None:
        share = np.float32(fitting.teacher_share)
        for name in settings.network.outputs:
            # Where the votes say nothing the teachers say all.
            known = (1 - share) * weights[name][:, None]
            wanted[name] = known * wanted[name] + (1 - known) * taught[name]
            weights[name] = np.where(weights[name] > 0, np.float32(1), share)
    outputs = settings.network.outputs
    return Targets({name: wanted[name] for name in outputs}, {name: weights[name] for name in outputs})


def show_something(faces: Faces) -> NDArray[np.bool_]:
    """Which of `faces` are not of one grey throughout: from those nothing can be learned. (n,) bool."""
    return np.asarray(np.ptp(faces.pixels, axis=(1, 2, 3)) > 0)


# ---- Distillation: what trained networks say of the training faces (Hinton et al. 2015).


def check_teachers(paths: Sequence[Path], outputs: Sequence[str]) -> tuple[str, ...]:
    """The sha256 of each teacher. Raises UserError for one without all `outputs` that are to be taught."""
    found = []
    for path in paths:
        card = read_card(path)
        missing = [name for name in outputs if name not in card["outputs"]]
        if missing:
            raise UserError(
                f"{path}: expected a teacher with the outputs {', '.join(outputs)}, found none of "
                f"{', '.join(missing)}; choose others, or fewer --outputs"
            )
        found.append(str(card["sha256"]))
    return tuple(found)


def ask_teachers(paths: Sequence[Path], outputs: Sequence[str], pixels: NDArray[np.uint8]) -> Probabilities:
    """The mean of what the teachers say of faces (n, 48, 48, 1) and of their mirror images, for `outputs`.

    It is what they learned: offsets and temperature of the shipped model, which are for those who use it, are
    taken out. Raises UserError for a model that isn't its card's.
    """
    said: dict[str, list[NDArray[np.float32]]] = {name: [] for name in outputs}
    for path in paths:
        card, model = read_card(path), load_model(path)
        check_outputs(card, model, path)
        for faces in (pixels, pixels[:, :, ::-1]):
            found = predictions(model, faces)
            for name in outputs:
                said[name].append(as_learned(found[name], *corrections(card, name)))
    return {name: np.mean(one, axis=0, dtype=np.float32) for name, one in said.items()}


def corrections(card: dict[str, Any], name: str) -> tuple[float, list[float]]:
    """Temperature and offsets of the output `name` of the model that `card` describes."""
    offsets = card.get("offsets", {}).get(name, [0.0] * len(EMOTIONS))
    return card.get("temperatures", {}).get(name, 1.0), offsets


def as_learned(
    probabilities: NDArray[np.float32], temperature: float, offsets: Sequence[float]
) -> NDArray[np.float32]:
    """Softmax of logits, from `probabilities` (n, 7) that have `offsets` and `temperature` in them."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return np.asarray(softmax(logs * temperature - np.asarray(offsets), axis=1), np.float32)


# ---- What is added to a trained network's logits so that rare emotions aren't overlooked.


Offsets = dict[str, list[float]]
"""Seven numbers by output, in the order of EMOTIONS, to add to logits; of those that are adjusted alone."""


def find_offsets(adjustment: Adjustment, targets: Targets) -> Offsets:
    """Those of the outputs that `targets`, of the training pictures, teach."""
    offsets = {}
    for name, wanted in targets.wanted.items():
        if not (share := getattr(adjustment, name)):
            continue
        # One picture more of each, so that no emotion has none and an infinite offset.
        counts = targets.weights[name].astype(np.float64) @ wanted + 1
        prior = counts / counts.sum()
        offsets[name] = [float(value) for value in -share * np.log(prior * len(EMOTIONS))]
    return offsets


# ---- The data of one training: faces, what they teach, and what validation compares with.


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
