"""The average of a network's weights over the steps of its training."""

from typing import Any

import keras


def move_average(averaged: Any, model: Any, decay: float) -> None:
    """Move the weights of `averaged`, another network like `model`, towards those of `model`.

    Exponential: each weight becomes `decay` times itself plus the rest of the other's (Polyak and Juditsky
    1992). Batch normalisation's moving statistics are averaged with the rest.
    """
    for mean, value in zip(averaged.weights, model.weights, strict=True):
        mean.assign(mean + (1 - decay) * (keras.ops.cast(value, mean.dtype) - mean))
