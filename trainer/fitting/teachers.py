"""Distillation: what trained networks say of the training faces (Hinton et al. 2015)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from trainer.card import read_card
from trainer.fitting.targets import Probabilities
from trainer.scoring.loading import load_model
from trainer.scoring.predict import probabilities


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


def ask_teachers(paths: Sequence[Path], pixels: NDArray[np.uint8]) -> Probabilities:
    """The mean of what the teachers say of faces (n, 48, 48, 1) and of their mirror images, by output."""
    said: list[dict[str, Any]] = []
    for path in paths:
        model = load_model(path)
        said += [probabilities(model, pixels), probabilities(model, pixels[:, :, ::-1])]
    return {name: np.mean([one[name] for one in said], axis=0, dtype=np.float32) for name in said[0]}
