"""Distillation: what trained networks say of the training faces (Hinton et al. 2015)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.emotions import EMOTIONS
from pipeline.errors import UserError
from trainer.card import read_card
from trainer.fitting.targets import Probabilities
from trainer.scoring.loading import check_outputs, load_model
from trainer.scoring.predict import predictions


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
