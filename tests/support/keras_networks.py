"""The trainer's networks, untrained but with random weights throughout."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.networks import for_training, for_use
from trainer.settings import MODELS, Settings, change, read_settings

NETWORKS = ("baseline", "residual")


def network(name: str, residual: Path) -> Any:
    """The baseline, or the network of the settings in the file `residual`, as it is shipped."""
    path = MODELS / "baseline.toml" if name == "baseline" else residual
    settings = change(read_settings(path), {"precision": "float32"})
    return for_use(settings, random_weights(settings), {"fer2013": 1.3, "consensus": 0.7}, offsets())


def offsets() -> dict[str, list[float]]:
    return {"fer2013": [0.0, 0.8, 0.1, -0.3, -0.1, 0.2, -0.1]}


def random_weights(settings: Settings) -> list[NDArray[np.float32]]:
    """New weights in which no scale, mean or bias is 0 or 1, as they all are before training."""
    rng = np.random.default_rng(4)
    made = []
    for weight in for_training(settings).weights:
        if weight.name in ("gamma", "moving_variance"):
            made.append(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("kernel",):
            made.append(rng.normal(0, 1.5 / np.sqrt(np.prod(weight.shape[:-1])), weight.shape))
        else:
            made.append(rng.normal(0, 0.2, weight.shape))
    return [np.asarray(array, np.float32) for array in made]


def noise(count: int) -> NDArray[np.uint8]:
    """Faces (count, 48, 48, 1) uint8."""
    return np.random.default_rng(6).integers(0, 256, (count, 48, 48, 1), np.uint8)
