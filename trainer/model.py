"""The networks that can be trained, and what they cost."""

from collections.abc import Callable
from typing import Any, Final

import keras
from keras import layers

from pipeline.emotions import EMOTIONS, FACE_SIZE


def baseline(seed: int) -> Any:
    """The tutorial's network, exactly: 555,623 parameters.

    Takes uint8 faces (n, 48, 48, 1), scales them to 0..1 itself and gives probabilities (n, 7) float32 in the
    order of EMOTIONS. `seed` decides first weights and dropout.
    """
    keras.utils.set_random_seed(seed)
    steps: list[Any] = [keras.Input((FACE_SIZE, FACE_SIZE, 1), dtype="uint8"), layers.Rescaling(1 / 255)]
    for filters in (32, 64, 128):
        steps += [
            layers.Conv2D(filters, 3, activation="relu"),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
        ]
    steps += [
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.5, seed=seed),
        layers.BatchNormalization(),
        layers.Dense(len(EMOTIONS), activation="softmax"),
    ]
    return keras.Sequential(steps, name="baseline")


MODELS: Final[dict[str, Callable[[int], Any]]] = {"baseline": baseline}


def multiply_adds(model: Any) -> int:
    """Multiply-adds of one face through `model`: those of its convolutions and dense layers.

    Raises NotImplementedError for a layer with weights that it doesn't know, rather than count it as free.
    """
    return sum(layer_multiply_adds(layer) for layer in model.layers)


def layer_multiply_adds(layer: Any) -> int:
    """As `multiply_adds`, of one layer."""
    if isinstance(layer, layers.Conv2D):
        _, height, width, filters = layer.output.shape
        # The kernel holds (rows, columns, channels in, filters); each filter is applied at each place.
        return int(
            height * width * layer.kernel.shape[0] * layer.kernel.shape[1] * layer.kernel.shape[2] * filters
        )
    if isinstance(layer, layers.Dense):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1])
    if layer.weights and not isinstance(layer, layers.BatchNormalization):
        raise NotImplementedError(f"multiply-adds of {type(layer).__name__}")
    return 0
