"""Keras networks in ONNX: the same probabilities, and what can't be written."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from pipeline.common.errors import UserError
from stages.onnx_model import check_onnx_file
from tests.support.keras_networks import NETWORKS, network, noise
from trainer.model_file import OnnxModel, predict
from trainer.onnx_graph import to_onnx

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


def ending(inside: Callable[[Any], Any], shape: tuple[int, int, int] = (48, 48, 1)) -> Any:
    """A network from uint8 faces to seven probabilities, with something `inside`."""
    start = keras.Input(shape, dtype="uint8")
    last = layers.Flatten()(inside(layers.Rescaling(1 / 255)(start)))
    return keras.Model(start, {"fer2013": layers.Dense(7, activation="softmax")(last)})


def same(model: Any) -> None:
    """The network gives Keras's probabilities on ONNX Runtime, with operators that the pipeline takes."""
    made = to_onnx(model, HERE)
    check_onnx_file(HERE, made.SerializeToString(), "classify.model")
    faces = np.random.default_rng(6).integers(0, 256, (4, *model.input_shape[1:]), np.uint8)
    expected = predict(model, faces)["fer2013"]
    assert np.ptp(expected, axis=0).max() > 1e-3, "constant probabilities would prove nothing"
    assert np.abs(predict(OnnxModel(made.SerializeToString()), faces)["fer2013"] - expected).max() <= 1e-5


def test_layer_that_is_used_twice() -> None:
    twice = layers.Conv2D(1, 3, activation="relu")
    same(ending(lambda x: twice(twice(x))))


def test_networks_within_a_network() -> None:
    start = keras.Input((48, 48, 1))
    y = layers.BatchNormalization()(layers.Conv2D(3, 3)(start))
    inner = keras.Model(start, layers.Add()([y, layers.Conv2D(3, 3)(start)]), name="inner")
    body = keras.Sequential([layers.Conv2D(2, 1), layers.ReLU()], name="body")
    same(ending(lambda x: body(inner(x))))


def squeezed(x: Any) -> Any:
    share = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Multiply()([x, layers.Conv2D(6, 1, activation="hard_sigmoid")(share)])


FORMS: dict[str, Callable[[Any], Any]] = {
    "groups": lambda x: layers.Conv2D(4, 3, groups=2)(layers.Conv2D(4, 3)(x)),
    "depthwise": lambda x: layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x),
    "separable": lambda x: layers.SeparableConv2D(6, 3, padding="same", activation="silu")(x),
    "average pooling": lambda x: layers.AveragePooling2D(3, strides=2, padding="same")(x),
    "global pooling": lambda x: layers.GlobalMaxPooling2D()(layers.Conv2D(6, 5)(x)),
    "squeeze": lambda x: squeezed(layers.Conv2D(6, 5)(x)),
    "padding": lambda x: layers.Conv2D(4, 3)(layers.ZeroPadding2D(((0, 1), (2, 3)))(x)),
    "concatenation": lambda x: layers.Concatenate()([layers.Conv2D(2, 1)(x), x, layers.Conv2D(3, 1)(x)]),
    "three added": lambda x: layers.Add()([layers.Conv2D(2, 1)(x) for _ in range(3)]),
    "maximum": lambda x: layers.Maximum()([layers.Conv2D(2, 1)(x) for _ in range(2)]),
    "reshape": lambda x: layers.Conv2D(2, 3)(layers.Reshape((24, 96, x.shape[-1]))(x)),
    "normalised": lambda x: layers.Normalization(mean=0.4, variance=0.1)(x),
    "arithmetic": lambda x: (x * 255 - 127.5) / 127.5 + 0.1,
    "prelu": lambda x: layers.PReLU(shared_axes=(1, 2), alpha_initializer="ones")(layers.Conv2D(3, 3)(x)),
    "elu": lambda x: layers.ELU(0.7)(layers.Conv2D(3, 3)(x)),
    "leaky": lambda x: layers.LeakyReLU(0.3)(layers.ReLU(negative_slope=0.5)(layers.Conv2D(3, 3)(x))),
    "augmented": lambda x: layers.RandomFlip()(layers.GaussianNoise(0.1)(layers.SpatialDropout2D(0.1)(x))),
    **{
        name: lambda x, name=name: layers.Activation(name)(layers.Conv2D(3, 3)(x))
        for name in ("gelu", "relu6", "tanh", "selu", "elu", "softplus", "hard_silu", "hard_sigmoid")
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_layers_that_people_use(form: str, channels: int) -> None:
    keras.utils.set_random_seed(3)
    same(ending(FORMS[form], (48, 48, channels)))


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(4, 3, activation="log_sigmoid"),
        layers.ReLU(threshold=1),
        layers.Conv2DTranspose(4, 3),
        layers.Softmax(),
        layers.Permute((2, 1, 3)),
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
