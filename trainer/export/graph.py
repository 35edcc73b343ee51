"""A Keras network as an ONNX graph, channels first, as ONNX Runtime computes it fastest.

Keras's own exporters keep channels last, with transposes between layers, and need other packages for each
backend. The trainer's networks have a dozen kinds of layers, each of which is a node or two here. Batch
normalisation after a convolution is folded into it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from keras import Sequential, layers, ops, tree
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS, FACE_SIZE
from trainer.scoring.network import OnnxModel, predict

OPSET: Final = 17
IR_VERSION: Final = 8
"""Of ONNX 1.12, which every ONNX Runtime since 1.12 (2022) reads."""
INPUT: Final = "faces"
ACTIVATIONS: Final = {"relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax"}
TOLERANCE: Final = 1e-5
"""Largest difference of a probability from Keras's: far more than rounding causes."""


def checked_onnx(model: Any, path: Path) -> onnx.ModelProto:
    """Return the Keras `model` of the file `path` in ONNX, float32, after comparing its probabilities.

    Raises UserError for a network that can't be written, or that gives other probabilities.
    """
    made = to_onnx(model, path)
    noise = np.random.default_rng(0).integers(0, 256, (8, FACE_SIZE, FACE_SIZE, 1), np.uint8)
    expected, found = predict(model, noise), predict(OnnxModel(made.SerializeToString()), noise)
    difference = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path}: expected the same probabilities from ONNX Runtime to {TOLERANCE}, found a difference "
            f"of {difference:.2g}; use a model that `python -m trainer fit` wrote"
        )
    return made


def to_onnx(model: Any, path: Path) -> onnx.ModelProto:
    """Return the Keras `model` of the file `path`, which has the trainer's input and outputs, in ONNX.

    Input "faces": uint8 (n, 48, 48, 1), n any number. Outputs: float32 (n, 7), named like the model's, or
    "fer2013" for a single nameless one. Raises UserError for a layer that can't be written.
    """
    graph = Graph(model)
    for layer in model.layers:
        try:
            if not isinstance(layer, layers.InputLayer):
                graph.add(layer)
        except NotImplementedError as error:
            known = ", ".join(kind.__name__ for kind in WRITERS)
            raise UserError(
                f"{path}: layer {layer.name}: {type(layer).__name__} with these options can't be written as "
                f"ONNX; expected {known}, as in the networks of `python -m trainer fit`"
            ) from error
    # A Sequential has no `output` before it is called.
    named = not isinstance(model, Sequential) and isinstance(model.output, dict)
    outputs = dict(model.output) if named else {"fer2013": model.outputs[0]}
    for name, tensor in sorted(outputs.items()):
        graph.emit("Identity", [graph.names[id(tensor)]], name)
    return assemble(graph, sorted(outputs))


def assemble(graph: "Graph", outputs: Sequence[str]) -> onnx.ModelProto:
    """Return the checked model of `graph`."""
    faces = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", FACE_SIZE, FACE_SIZE, 1])
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(EMOTIONS)]) for name in outputs]
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    body = helper.make_graph(graph.nodes, "emotions", [faces], rows, constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION, producer_name="trainer")
    onnx.checker.check_model(model, full_check=True)
    return model


class Graph:
    """The graph so far: nodes, constants by name, and the name in the graph of each Keras tensor."""

    def __init__(self, model: Any) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        # The channel comes first by a reshape: with a single one, no data moves.
        shape = self.constant("faces.shape", [-1, 1, FACE_SIZE, FACE_SIZE], np.int64)
        first = self.emit("Reshape", [INPUT, shape], "faces.first")
        self.names = {id(model.inputs[0]): self.emit("Cast", [first], "faces.float", to=TensorProto.FLOAT)}
        self.uses = Counter(id(tensor) for layer in model.layers for tensor in tree.flatten(layer.input))

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant; returns its name."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def axes(self) -> str:
        """Add the constant with the axes of rows and columns; returns its name."""
        return self.constant("rows_columns", [2, 3], np.int64)

    def emit(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, and that name; returns it."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def add(self, layer: Any) -> None:
        """Add what `layer` computes. Raises NotImplementedError for an unknown layer or option."""
        tensors = tree.flatten(layer.input)
        # A layer that is used twice lists only its first use, so the output of the second is unknown.
        require(type(layer) in WRITERS and all(id(tensor) in self.names for tensor in tensors))
        inputs = [self.names[id(tensor)] for tensor in tensors]
        self.names[id(layer.output)] = WRITERS[type(layer)](self, layer, inputs)


def rescaling(graph: Graph, layer: Any, inputs: list[str]) -> str:
    name = layer.name
    scaled = graph.emit("Mul", [*inputs, graph.constant(f"{name}.scale", layer.scale)], f"{name}.scaled")
    if not np.any(layer.offset):
        return scaled
    return graph.emit("Add", [scaled, graph.constant(f"{name}.offset", layer.offset)], name)


def convolution(graph: Graph, layer: Any, inputs: list[str]) -> str:
    require(layer.data_format == "channels_last" and layer.groups == 1)
    kernel = values(layer.kernel).transpose(3, 2, 0, 1)
    bias = values(layer.bias) if layer.use_bias else np.zeros(layer.filters, np.float32)
    output = graph.emit(
        "Conv",
        [*inputs, graph.constant(f"{layer.name}.kernel", kernel), graph.constant(f"{layer.name}.bias", bias)],
        layer.name,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        auto_pad=padding(layer),
    )
    return activated(graph, layer, output)


def dense(graph: Graph, layer: Any, inputs: list[str]) -> str:
    require(len(layer.input.shape) == 2)
    bias = values(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32)
    weights = graph.constant(f"{layer.name}.weights", values(layer.kernel))
    output = graph.emit("Gemm", [*inputs, weights, graph.constant(f"{layer.name}.bias", bias)], layer.name)
    return activated(graph, layer, output)


def batch_normalisation(graph: Graph, layer: Any, inputs: list[str]) -> str:
    """Fold the layer into the convolution before it, if that feeds nothing else."""
    require(layer.axis in (-1, len(layer.input.shape) - 1))
    scale = values(layer.gamma) if layer.scale else np.ones(layer.input.shape[-1])
    shift = values(layer.beta) if layer.center else np.zeros(layer.input.shape[-1])
    mean, variance = values(layer.moving_mean), values(layer.moving_variance)
    kernel, bias = f"{inputs[0]}.kernel", f"{inputs[0]}.bias"
    if kernel in graph.constants and graph.uses[id(layer.input)] == 1:
        factor = scale / np.sqrt(variance.astype(np.float64) + layer.epsilon)
        graph.constant(kernel, graph.constants[kernel] * factor[:, None, None, None])
        graph.constant(bias, (graph.constants[bias] - mean) * factor + shift)
        return inputs[0]
    parts = {"scale": scale, "shift": shift, "mean": mean, "variance": variance}
    names = [graph.constant(f"{layer.name}.{name}", value) for name, value in parts.items()]
    return graph.emit("BatchNormalization", [*inputs, *names], layer.name, epsilon=layer.epsilon)


def max_pooling(graph: Graph, layer: Any, inputs: list[str]) -> str:
    require(layer.data_format == "channels_last")
    return graph.emit(
        "MaxPool",
        inputs,
        layer.name,
        kernel_shape=layer.pool_size,
        strides=layer.strides,
        auto_pad=padding(layer),
    )


def average_pooling(graph: Graph, layer: Any, inputs: list[str]) -> str:
    require(layer.data_format == "channels_last" and not layer.keepdims)
    pooled = graph.emit("GlobalAveragePool", inputs, f"{layer.name}.pooled")
    return graph.emit("Squeeze", [pooled, graph.axes()], layer.name)


def relu(graph: Graph, layer: Any, inputs: list[str]) -> str:
    require(layer.max_value is None and not layer.negative_slope and not layer.threshold)
    return graph.emit("Relu", inputs, layer.name)


def softmax(graph: Graph, layer: Any, inputs: list[str]) -> str:
    require(layer.axis == -1 and len(layer.input.shape) == 2)
    return graph.emit("Softmax", inputs, layer.name + ".softmax", axis=-1)


def reshape(graph: Graph, layer: Any, inputs: list[str]) -> str:
    """Turn one number a channel into a channel of one pixel."""
    channels = layer.input.shape[-1]
    require(len(layer.input.shape) == 2 and tuple(layer.target_shape) == (1, 1, channels))
    return graph.emit("Unsqueeze", [*inputs, graph.axes()], layer.name)


def flatten(graph: Graph, layer: Any, inputs: list[str]) -> str:
    """Flatten with channels last, the order of the next layer's weights."""
    require(len(layer.input.shape) == 4)
    last = graph.emit("Transpose", inputs, f"{layer.name}.last", perm=(0, 2, 3, 1))
    return graph.emit("Flatten", [last], layer.name)


def unchanged(graph: Graph, layer: Any, inputs: list[str]) -> str:
    return inputs[0]


def merge(graph: Graph, layer: Any, inputs: list[str]) -> str:
    require(len(inputs) == 2)
    return graph.emit({layers.Add: "Add", layers.Multiply: "Mul"}[type(layer)], inputs, layer.name)


def activated(graph: Graph, layer: Any, output: str) -> str:
    """Apply the layer's activation to `output`."""
    name = layer.activation.__name__
    if name == "linear":
        return output
    require(name in ACTIVATIONS)
    return graph.emit(ACTIVATIONS[name], [output], f"{layer.name}.{name}")


def padding(layer: Any) -> str:
    """Return the layer's padding in ONNX's terms."""
    return {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]


def values(variable: Any) -> NDArray[Any]:
    return np.asarray(ops.convert_to_numpy(variable))


def require(condition: bool) -> None:
    """Raise NotImplementedError unless `condition` holds."""
    if not condition:
        raise NotImplementedError


WRITERS: Final[dict[type, Callable[[Graph, Any, list[str]], str]]] = {
    layers.Rescaling: rescaling,
    layers.Conv2D: convolution,
    layers.BatchNormalization: batch_normalisation,
    layers.ReLU: relu,
    layers.MaxPooling2D: max_pooling,
    layers.GlobalAveragePooling2D: average_pooling,
    layers.Flatten: flatten,
    layers.Dense: dense,
    layers.Reshape: reshape,
    layers.Multiply: merge,
    layers.Add: merge,
    layers.Dropout: unchanged,
    layers.Softmax: softmax,
}
"""By kind of layer, a function that adds it to the graph: names of its inputs in, name of its output out."""
