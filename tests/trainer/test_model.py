"""The baseline is the tutorial's network."""

from typing import Any

import keras
import numpy as np
import pytest

from trainer.model import baseline, multiply_adds


@pytest.fixture(scope="module")
def network() -> Any:
    return baseline(seed=3)


def test_parameters(network: Any) -> None:
    assert network.count_params() == 555_623


def test_layers_in_order(network: Any) -> None:
    block = ["Conv2D", "Conv2D", "MaxPooling2D", "BatchNormalization"]
    end = ["Flatten", "Dense", "Dropout", "BatchNormalization", "Dense"]
    assert [type(layer).__name__ for layer in network.layers] == ["Rescaling", *block * 3, *end]


def test_multiply_adds_are_those_worked_out_by_hand(network: Any) -> None:
    convolutions = 46**2 * 9 * 32 + 44**2 * 9 * 32 * 32  # 48 -> 46 -> 44 -> 22
    convolutions += 20**2 * 9 * 32 * 64 + 18**2 * 9 * 64 * 64  # 22 -> 20 -> 18 -> 9
    convolutions += 7**2 * 9 * 64 * 128 + 5**2 * 9 * 128 * 128  # 9 -> 7 -> 5 -> 2
    assert multiply_adds(network) == convolutions + 2 * 2 * 128 * 512 + 512 * 7


def test_an_unknown_layer_is_not_counted_as_free() -> None:
    other = keras.Sequential([keras.Input((8, 4)), keras.layers.LSTM(2)])
    with pytest.raises(NotImplementedError, match="LSTM"):
        multiply_adds(other)


def test_uint8_faces_in_probabilities_out(network: Any) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), dtype=np.uint8)
    assert network.inputs[0].dtype == "uint8"
    probabilities = np.asarray(network(faces))
    assert probabilities.shape == (5, 7)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_seed_decides_the_weights(network: Any) -> None:
    same, other = baseline(seed=3), baseline(seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), same.get_weights(), strict=True))
    assert not np.array_equal(network.get_weights()[0], other.get_weights()[0])
