"""The tutorial's network."""

from typing import Any

from keras import layers

from pipeline.emotions import EMOTIONS


def baseline(faces: Any, dropout: float, seed: int) -> dict[str, Any]:
    """From `faces`, a symbolic tensor in 0..1, to logits (n, 7): the tutorial's 555,623 parameters."""
    x = faces
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.BatchNormalization()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dropout(dropout, seed=seed)(x)
    x = layers.BatchNormalization()(x)
    return {"fer2013": layers.Dense(len(EMOTIONS), dtype="float32", name="fer2013_logits")(x)}
