"""Distillation: what trained networks say of the training faces (Hinton et al. 2015)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

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

    It is said at the temperature that they were trained at: that of the shipped model is fitted to the truth
    that is most probable, and sharper than what they learned. Raises UserError for a model that isn't its
    card's.
    """
    said: dict[str, list[NDArray[np.float32]]] = {name: [] for name in outputs}
    for path in paths:
        card, model = read_card(path), load_model(path)
        check_outputs(card, model, path)
        for faces in (pixels, pixels[:, :, ::-1]):
            found = predictions(model, faces)
            for name in outputs:
                said[name].append(at_temperature(found[name], card.get("temperatures", {}).get(name, 1.0)))
    return {name: np.mean(one, axis=0, dtype=np.float32) for name, one in said.items()}


def at_temperature(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Softmax of logits from `probabilities` (n, 7), which are their softmax divided by `temperature`."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return np.asarray(softmax(logs * temperature, axis=1), np.float32)
