"""Batch normalisation's statistics, estimated from plain faces."""

import keras
import numpy as np

from trainer.train import estimate_statistics


def make_model() -> keras.Model:
    steps = [
        keras.Input((48, 48, 1), dtype="uint8"),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5, seed=0),
        keras.layers.BatchNormalization(),
    ]
    return keras.Sequential(steps)


def test_statistics_are_those_of_the_faces() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 48, 48, 1), dtype=np.uint8)
    model = make_model()
    estimate_statistics(model, pixels, seed=0)
    flat = pixels.reshape(700, -1) / 255
    layer = model.layers[-1]
    np.testing.assert_allclose(layer.moving_mean, flat.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, flat.var(axis=0), atol=1e-3)


def test_estimating_changes_nothing_else() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 48, 1), dtype=np.uint8)
    model = make_model()
    model.add(keras.layers.Dense(3))
    before = [np.array(weight) for weight in model.trainable_weights]
    estimate_statistics(model, pixels, seed=0)
    for weight, after in zip(before, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(weight, after)
    assert len(before) == 4
    assert (model.layers[-2].momentum, model.layers[-3].rate) == (0.99, 0.5)
