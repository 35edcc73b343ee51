"""int8: graph changes that keep the result, what is quantised, and how."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.keras_networks import NETWORKS, network, noise
from trainer.int8 import equalise_channels, kept_in_float, pool_before_relu, to_int8
from trainer.model_file import OnnxModel, predict
from trainer.onnx_graph import to_onnx


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: pytest.FixtureRequest, settings: Path) -> onnx.ModelProto:
    return to_onnx(network(request.param, settings), Path("m.keras"))


def probabilities_of(model: onnx.ModelProto) -> dict[str, Any]:
    return predict(OnnxModel(model.SerializeToString()), noise(32))


def furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_pooling_before_relu_gives_the_same_result(settings: Path) -> None:
    model = to_onnx(network("residual", settings), Path("m.keras"))
    before, kinds = probabilities_of(model), [node.op_type for node in model.graph.node]
    pool_before_relu(model)
    after = [node.op_type for node in model.graph.node]
    first = kinds.index("Conv")
    assert kinds[first : first + 3] == ["Conv", "Relu", "MaxPool"]
    assert after[first : first + 3] == ["Conv", "MaxPool", "Relu"]
    assert furthest(before, probabilities_of(model)) == 0


def test_equalised_channels_give_the_same_probabilities(exported: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    equalise_channels(model, noise(32), kept_in_float(model))
    assert model != exported
    assert furthest(probabilities_of(exported), probabilities_of(model)) <= 1e-5


def test_all_but_the_first_convolution_and_dense_layers_are_quantised(exported: onnx.ModelProto) -> None:
    made, kept = to_int8(exported, noise(100))
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
    made_by = {node.output[0]: node.op_type for node in made.graph.node}
    quantised = [node for node in convolutions if made_by.get(node.input[1]) == "DequantizeLinear"]
    assert quantised == convolutions[1:]
    assert all(made_by[node.input[0]] == "DequantizeLinear" for node in quantised)
    dense = [node.name for node in made.graph.node if node.op_type == "Gemm"]
    assert kept == [convolutions[0].name, *dense] or set(kept) == {convolutions[0].name, *dense}


def test_weights_have_seven_bits(exported: onnx.ModelProto) -> None:
    made, _ = to_int8(exported, noise(100))
    weights = [
        numpy_helper.to_array(c) for c in made.graph.initializer if c.data_type == onnx.TensorProto.INT8
    ]
    kernels = [array for array in weights if array.ndim == 4]
    assert kernels
    # Twice the largest times the largest activation, 255, must fit 16 bits.
    assert max(int(np.abs(array.astype(int)).max()) for array in kernels) == 64


def test_int8_probabilities_are_close(exported: onnx.ModelProto) -> None:
    made, _ = to_int8(exported, noise(100))
    assert furthest(probabilities_of(exported), probabilities_of(made)) < 0.1


def test_dead_channels(settings: Path) -> None:
    """A network that begins its blocks as shortcuts: what follows the last scale of a block is 0."""
    model = network("residual", settings)
    model.set_weights([array * (array.ndim != 1) for array in model.get_weights()])
    exported = to_onnx(model, Path("m.keras"))
    made, _ = to_int8(exported, noise(10))
    assert furthest(probabilities_of(exported), probabilities_of(made)) < 0.1
