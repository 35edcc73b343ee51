"""The networks: the tutorial's exactly, the small one within its limits, and both as they are shipped."""

from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import softmax

from trainer.networks import for_training, for_use, multiply_adds
from trainer.settings import MODELS, Settings, change, read_settings


def settings_of(name: str, **changes: Any) -> Settings:
    return change(read_settings(MODELS / f"{name}.toml"), {"precision": "float32", **changes})


def shipped(settings: Settings, **temperatures: float) -> Any:
    every = dict.fromkeys(settings.network.outputs, 1.0) | temperatures
    return for_use(settings, for_training(settings).get_weights(), every, {})


@pytest.fixture(scope="module")
def baseline() -> Any:
    return shipped(settings_of("baseline", seed=3))


def test_baseline_is_the_tutorials_network(baseline: Any) -> None:
    assert baseline.count_params() == 555_623
    block = ["Conv2D", "Conv2D", "MaxPooling2D", "BatchNormalization"]
    end = ["Flatten", "Dense", "Dropout", "BatchNormalization", "Dense", "Rescaling", "Softmax"]
    assert [type(layer).__name__ for layer in baseline.layers] == [
        "InputLayer",
        "Rescaling",
        *block * 3,
        *end,
    ]


def test_multiply_adds_worked_out_by_hand(baseline: Any) -> None:
    convolutions = 46**2 * 9 * 32 + 44**2 * 9 * 32 * 32  # 48 -> 46 -> 44 -> 22
    convolutions += 20**2 * 9 * 32 * 64 + 18**2 * 9 * 64 * 64  # 22 -> 20 -> 18 -> 9
    convolutions += 7**2 * 9 * 64 * 128 + 5**2 * 9 * 128 * 128  # 9 -> 7 -> 5 -> 2
    assert multiply_adds(baseline) == convolutions + 2 * 2 * 128 * 512 + 512 * 7


def test_multiply_adds_are_unknown_with_an_unknown_layer() -> None:
    other = keras.Sequential([keras.Input((8, 4)), keras.layers.LSTM(2)])
    assert multiply_adds(other) is None


def test_small_network_is_small() -> None:
    model = shipped(settings_of("small"))
    assert multiply_adds(model) == 94_355_392 <= 100_000_000
    assert model.count_params() == 1_202_982 <= 5_000_000


def faces(size: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (5, size, size, 1), dtype=np.uint8)


def test_uint8_faces_in_probabilities_out() -> None:
    model = shipped(settings_of("small"))
    assert model.inputs[0].dtype == "uint8"
    found = model.predict_on_batch(faces())
    assert set(found) == {"fer2013", "consensus"}
    for probabilities in found.values():
        assert (probabilities.shape, probabilities.dtype) == ((5, 7), np.float32)
        assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_shipped_network_applies_offsets_and_temperature() -> None:
    settings = settings_of("small")
    trained = for_training(settings)
    logits = {name: np.asarray(tensor) for name, tensor in trained.predict_on_batch(faces()).items()}
    offsets = [0.0, 1.0, -1.0, 0.5, 0.0, 0.0, 2.0]
    temperatures = {"fer2013": 2.0, "consensus": 0.5}
    model = for_use(settings, trained.get_weights(), temperatures, {"fer2013": offsets})
    found = model.predict_on_batch(faces())
    for name, added in (("fer2013", offsets), ("consensus", [0.0] * 7)):
        expected = softmax((logits[name] + added) / temperatures[name], axis=1)
        assert np.allclose(found[name], expected, atol=1e-5)


def test_shipped_network_has_keras_own_layers_in_float32() -> None:
    settings = settings_of("small", precision="mixed_bfloat16")
    model = shipped(settings)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    assert {layer.dtype_policy.name for layer in model.layers if layer.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_smaller_faces_can_be_trained_on() -> None:
    found = for_training(settings_of("small")).predict_on_batch(faces(32))
    assert found["consensus"].shape == (5, 7)


def test_seed_determines_the_weights() -> None:
    one, same, other = (for_training(settings_of("small", seed=seed)).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])
