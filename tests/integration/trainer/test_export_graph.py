"""Keras networks in ONNX: the same probabilities, and what can't be written."""

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from pipeline.common.errors import UserError
from tests.support.keras_networks import NETWORKS, network, noise
from trainer.export.graph import to_onnx
from trainer.scoring.network import OnnxModel, predict

HERE = Path("m.keras")


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest, settings: Path) -> Any:
    return network(request.param, settings)


@pytest.fixture(scope="module")
def exported(model: Any) -> onnx.ModelProto:
    return to_onnx(model, HERE)


@pytest.mark.parametrize("count", [1, 3, 64])
def test_probabilities_are_those_of_keras(model: Any, exported: onnx.ModelProto, count: int) -> None:
    expected = predict(model, noise(count))
    found = predict(OnnxModel(exported.SerializeToString()), noise(count))
    assert found.keys() == expected.keys()
    for name, probabilities in expected.items():
        assert probabilities.std() > 0.02, "constant probabilities would prove nothing"
        assert np.abs(found[name] - probabilities).max() <= 1e-5


def test_input_and_outputs_have_the_names_and_types_of_the_pipeline(
    model: Any, exported: onnx.ModelProto
) -> None:
    (faces,), outputs = exported.graph.input, exported.graph.output
    assert (faces.name, faces.type.tensor_type.elem_type) == ("faces", onnx.TensorProto.UINT8)
    assert [output.name for output in outputs] == sorted(model.output)
    assert {output.type.tensor_type.elem_type for output in outputs} == {onnx.TensorProto.FLOAT}
    network = OnnxModel(exported.SerializeToString())
    assert network.input_shape == (None, 48, 48, 1)
    assert set(network.compute_output_shape(None).values()) == {(None, 7)}


def test_batch_normalisation_is_folded_into_convolutions(settings: Path) -> None:
    kinds = Counter(node.op_type for node in to_onnx(network("residual", settings), HERE).graph.node)
    assert kinds["Conv"] == 8
    assert not {"BatchNormalization", "Transpose", "Dropout"} & kinds.keys()


def test_nameless_output_of_a_sequential_is_fer2013() -> None:
    model = keras.Sequential(
        [
            keras.Input((48, 48, 1), dtype="uint8"),
            layers.Rescaling(1 / 255, offset=-0.5),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(7, activation="softmax"),
        ]
    )
    found = predict(OnnxModel(to_onnx(model, HERE).SerializeToString()), noise(3))
    assert list(found) == ["fer2013"]
    assert np.abs(found["fer2013"] - model.predict_on_batch(noise(3))).max() <= 1e-5


def test_layer_that_is_used_twice_is_refused() -> None:
    start = keras.Input((48, 48, 1), dtype="uint8")
    twice = layers.Conv2D(1, 3)
    inner = layers.Flatten(name="after")(twice(twice(layers.Rescaling(1 / 255)(start))))
    model = keras.Model(start, {"fer2013": layers.Dense(7)(inner)})
    with pytest.raises(UserError, match="layer after: Flatten"):
        to_onnx(model, HERE)


@pytest.mark.parametrize(
    "layer",
    [
        layers.AveragePooling2D(2),
        layers.Conv2D(4, 3, groups=2),
        layers.Conv2D(4, 3, activation="gelu"),
        layers.ReLU(max_value=6),
        layers.GlobalAveragePooling2D(keepdims=True),
    ],
    ids=lambda layer: str(layer.name),
)
def test_layer_that_cannot_be_written_is_named(layer: Any) -> None:
    start = keras.Input((48, 48, 1), dtype="uint8")
    inner = layer(layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(start)))
    model = keras.Model(start, {"fer2013": layers.Dense(7)(layers.Flatten()(inner))})
    with pytest.raises(
        UserError, match=f"^m.keras: layer {layer.name}: {type(layer).__name__} with"
    ) as caught:
        to_onnx(model, HERE)
    assert "\n" not in str(caught.value)
