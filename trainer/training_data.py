"""The data of one training: faces, targets with their weights, and the labels of validation."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import read_all_keys
from trainer.dataset import TRAINING_PARTS, Dataset, Faces, digest
from trainer.model_file import open_model, predict
from trainer.settings import Adjustment, Settings
from trainer.votes import distribution, majority

NEVER: Final = -1000.0
"""Added to the logit of an emotion that was not learned, so that its probability is 0 at any temperature."""

Probabilities = dict[str, NDArray[np.float32]]
"""(n, 7) float32 by output, rows adding up to 1."""


@dataclass(frozen=True)
class Targets:
    """What the network should predict for n pictures, and by output the weight (n,) float32 of each."""

    probabilities: Probabilities
    weights: dict[str, NDArray[np.float32]]

    def take(self, indices: NDArray[np.int64]) -> "Targets":
        """Return the targets of the pictures at `indices`, in that order."""
        return Targets(
            {name: values[indices] for name, values in self.probabilities.items()},
            {name: values[indices] for name, values in self.weights.items()},
        )


@dataclass(frozen=True)
class TrainingData:
    """`train` without blank pictures, with their `targets`; `validation` whole.

    `consensus` (n,) int64 is the majority of the votes for the validation faces, -1 where there is none or
    no votes were given. `sha256` covers everything that the training uses.
    """

    train: Faces
    targets: Targets
    validation: Faces
    consensus: NDArray[np.int64]
    sha256: str


def make_training_data(settings: Settings, dataset: Dataset) -> TrainingData:
    """Return the data of a training. Raises UserError if an output has nothing to train or validate with."""
    train, validation, votes = dataset.parts["train"], dataset.parts["validation"], dataset.votes
    total = hashlib.sha256(digest(dataset.parts).encode())
    if votes is not None:
        for part in TRAINING_PARTS:
            total.update(votes[part].tobytes())
    consensus = np.full(len(validation), -1) if votes is None else majority(votes["validation"])
    if "consensus" in settings.network.outputs and votes is not None and not (consensus >= 0).any():
        raise UserError(
            "network.outputs: consensus is validated on pictures on which most people agree, found none of "
            "validation in --votes; give the votes of all parts, or leave it out with --outputs fer2013"
        )
    targets = make_targets(settings, train, None if votes is None else votes["train"], dataset.teacher_probs)
    # Nothing can be learned from pictures of one grey throughout.
    kept = np.flatnonzero(np.ptp(train.pixels, axis=(1, 2, 3)) > 0)
    return TrainingData(train.take(kept), targets.take(kept), validation, consensus, total.hexdigest())


def make_targets(
    settings: Settings, faces: Faces, votes: NDArray[np.uint8] | None, teacher_probs: Probabilities | None
) -> Targets:
    """Return the targets of `faces`, from their labels, their `votes` (n, 10) and the teachers' predictions.

    FER2013's labels are smoothed (Szegedy et al. 2016). The consensus is the distribution of the votes, with
    weight 0 where there are too few and no teachers. Raises UserError if `consensus` can't be trained.
    """
    fitting, outputs = settings.fitting, settings.network.outputs
    one_hot = np.eye(len(EMOTIONS), dtype=np.float32)[faces.labels]
    learned = one_hot.any(axis=0)  # an emotion without pictures gets no share
    evenly = learned * np.float32(fitting.label_smoothing / learned.sum())
    probabilities = {"fer2013": one_hot * (1 - fitting.label_smoothing) + evenly}
    weights = {"fer2013": np.ones(len(faces), np.float32)}
    if "consensus" in outputs:
        if votes is None:
            raise UserError("network.outputs: consensus is trained with votes; give --votes, or leave it out")
        shares, enough = distribution(votes, fitting.fewest_votes)
        probabilities["consensus"], weights["consensus"] = shares, enough.astype(np.float32)
        if teacher_probs is None and not enough.any():
            raise UserError(
                "network.outputs: consensus is trained with pictures that have "
                f"{fitting.fewest_votes} votes or more for the seven emotions, found none; "
                "give other --votes, lower fitting.fewest_votes, or leave it out with --outputs fer2013"
            )
    if teacher_probs is not None:
        share = np.float32(fitting.teacher_share)
        for name in outputs:
            # Where there are too few votes, the targets are the teachers' alone.
            known = (1 - share) * weights[name][:, None]
            probabilities[name] = known * probabilities[name] + (1 - known) * teacher_probs[name]
            weights[name] = np.where(weights[name] > 0, np.float32(1), share)
    return Targets({name: probabilities[name] for name in outputs}, {name: weights[name] for name in outputs})


def predict_teachers(
    paths: Sequence[Path], outputs: Sequence[str], pixels: NDArray[np.uint8]
) -> Probabilities:
    """Return the teachers' mean predictions for faces (n, 48, 48, 1) and their mirror images (Hinton 2015).

    Offsets and temperature, which are fitted after a training, are removed from them; what is mixed of one
    output into the other is not. Raises UserError for a model that isn't its card's.
    """
    found = []
    for path in paths:
        card, model = read_all_keys(path), open_model(path)
        for faces in (pixels, pixels[:, :, ::-1]):
            predicted = predict(model, faces)
            found.append({name: uncalibrated(predicted[name], card, name) for name in outputs})
    return {name: np.mean([one[name] for one in found], axis=0, dtype=np.float32) for name in outputs}


def uncalibrated(
    probabilities: NDArray[np.float32], card: dict[str, Any], output: str
) -> NDArray[np.float32]:
    """Return `probabilities` (n, 7) of an output without the offsets and temperature in its model's card."""
    temperature = card.get("temperatures", {}).get(output, 1.0)
    offsets = np.array(card.get("offsets", {}).get(output, [0.0] * len(EMOTIONS)))
    offsets[offsets == NEVER] = 0  # a teacher does not teach what it has not learned
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return np.asarray(softmax(logs * temperature - offsets, axis=1), np.float32)


def log_priors(targets: Targets) -> dict[str, NDArray[np.float64]]:
    """Return by output how common each emotion is in `targets`, (7,) in nats above an even share."""
    found = {}
    for name, probabilities in targets.probabilities.items():
        # One more picture of each emotion: rare ones would be raised too far.
        counts = targets.weights[name].astype(np.float64) @ probabilities + 1
        found[name] = np.log(counts / counts.sum() * len(EMOTIONS))
    return found


def logit_offsets(adjustment: Adjustment, targets: Targets, balance: float = 0.0) -> dict[str, list[float]]:
    """Return the offsets of logit adjustment, which raises rare emotions (Menon et al. 2021).

    Seven numbers in the order of EMOTIONS for each output that is adjusted, by their share in `targets`;
    NEVER for an emotion that was not learned. `balance` is the share of the log prior that the loss took off.
    """
    offsets = {}
    missing = not_learned(targets)
    for name, prior in log_priors(targets).items():
        # A last layer that was fitted again has its own balance.
        strength = getattr(adjustment, name) - (0.0 if name == "consensus" and adjustment.refit else balance)
        values = -strength * prior
        values[[EMOTIONS.index(emotion) for emotion in missing.get(name, ())]] = NEVER
        if strength or name in missing:
            offsets[name] = values.tolist()
    return offsets


def not_learned(targets: Targets) -> dict[str, list[str]]:
    """Return by output the emotions that no target has, for outputs with any."""
    found = {}
    for name, probabilities in targets.probabilities.items():
        shares = targets.weights[name] @ probabilities
        missing = [emotion for emotion, share in zip(EMOTIONS, shares, strict=True) if share == 0]
        if 0 < len(missing) < len(EMOTIONS):
            found[name] = missing
    return found
