"""What each picture teaches: a distribution over the emotions for each output, and how much it counts."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.emotions import EMOTIONS
from pipeline.errors import UserError
from trainer.data.faces import Faces
from trainer.data.votes import distribution
from trainer.settings import Settings

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
