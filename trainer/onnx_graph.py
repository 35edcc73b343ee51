"""A Keras network as an ONNX graph, channels first, as ONNX Runtime computes it fastest.

Keras's own exporters keep channels last, with transposes between layers, and need other packages for each
backend. Here each of some two dozen kinds of layers is a node or two, and batch normalisation after a
convolution is folded into it.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pipeline.common.errors import UserError
from pipeline.common.files import replacing, sha256
from pipeline.common.labels import EMOTIONS
from trainer.model_file import OnnxModel, by_output, predict

OPSET: Final = 17
IR_VERSION: Final = 8
"""Of ONNX 1.12, which every ONNX Runtime since 1.12 (2022) reads."""
INPUT: Final = "faces"
TOLERANCE: Final = 1e-4
"""Largest difference of a probability from Keras's: more than rounding causes in a deep network."""


def checked_onnx(model: Any, path: Path) -> onnx.ModelProto:
    """Return the trainer's Keras `model` of the file `path` in ONNX, float32, with the same probabilities.

    Raises UserError for a network that can't be written, or that gives other probabilities.
    """
    made = to_onnx(model, path)
    faces = np.random.default_rng(0).integers(0, 256, (8, *model.input_shape[1:]), np.uint8)
    expected, found = predict(model, faces), predict(OnnxModel(made.SerializeToString()), faces)
    difference = float(np.max([np.abs(found[name] - expected[name]) for name in expected]))
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path}: expected the same probabilities from ONNX Runtime to {TOLERANCE}, found a difference "
            f"of {difference:.2g}; the network can't be exported"
        )
    return made


def to_onnx(model: Any, path: Path) -> onnx.ModelProto:
    """Return the Keras `model` of the file `path`, which has the trainer's input and outputs, in ONNX.

    Input "faces": uint8 (n, 48, 48, 1), n any number. Outputs: float32 (n, 7), named like the model's, or
    "fer2013" for a single nameless one. Raises UserError for a layer that can't be written.
    """
    graph = Graph(path, model.input_shape[1:])
    found = dict(zip(map(id, model.outputs), graph.run(model, [graph.faces]), strict=True))
    outputs = by_output(functional(model).output)
    return graph.finish({name: found[id(tensor)].name for name, tensor in outputs.items()})


def functional(model: Any) -> Any:
    """Return the graph of layers within a Sequential; anything else as it is."""
    return getattr(model, "_functional", None) or model


def write_onnx(made: onnx.ModelProto, model: Path, precision: str) -> dict[str, Any]:
    """Write `made` beside the Keras file `model`; returns the card's entry. Raises UserError."""
    path = model.with_suffix(".onnx")
    with replacing(path) as temporary:
        temporary.write_bytes(made.SerializeToString(deterministic=True))
    return {"file": path.name, "sha256": sha256(path), "precision": precision}


class Tensor(NamedTuple):
    """A tensor of the graph: its name, and its shape as Keras has it, with channels last."""

    name: str
    shape: tuple[int | None, ...]


class Graph:
    """The graph so far: nodes, and constants by name. `faces` are the pixels as float, 0 to 255."""

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        self.path, self.shape = path, tuple(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        height, width, channels = self.shape
        if channels == 1:  # the channel comes first by a reshape: no data moves
            first = self.constant("faces.shape", [-1, 1, height, width], np.int64)
            first = self.emit("Reshape", [INPUT, first], "faces.first")
        else:
            first = self.emit("Transpose", [INPUT], "faces.first", perm=(0, 3, 1, 2))
        cast = self.emit("Cast", [first], "faces.float", to=TensorProto.FLOAT)
        self.faces = Tensor(cast, (None, *self.shape))

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

    def run(self, model: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Add the layers of a Keras `model` on `inputs`; returns its outputs. Raises UserError."""
        model = functional(model)
        known = {id(symbol): tensor for symbol, tensor in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    args, _ = node.arguments.fill_in(known)
                    name = self.add(node.operation, flat(args))
                    known[id(node.outputs[0])] = Tensor(name, tuple(node.outputs[0].shape))
        return [known[id(symbol)] for symbol in model.outputs]

    def add(self, layer: Any, inputs: list[Any]) -> str:
        """Add `layer` on tensors, and numbers; returns the name of its output. Raises UserError."""
        if hasattr(functional(layer), "_nodes_by_depth"):  # a network within the network
            return self.run(layer, inputs)[0].name
        kind = type(layer).__name__
        taken = {node.name for node in self.nodes}
        name = layer.name
        while name in taken or any(other.startswith(f"{name}.") for other in taken):
            name += "_again"  # a layer that is used twice, or one of a network within the network
        try:
            require(kind in WRITERS and type(layer).__module__.startswith("keras."))
            return WRITERS[kind](self, layer, name, inputs)
        except NotImplementedError as error:
            raise UserError(
                f"{self.path}: layer {layer.name}: {kind} with these options can't be written as ONNX; "
                f"expected {', '.join(sorted(WRITERS))}"
            ) from error

    def fold_normalisation(self) -> None:
        """Fold each batch normalisation into the convolution before it, if that feeds nothing else."""
        uses = Counter(name for node in self.nodes for name in node.input)
        made = {node.output[0]: node for node in self.nodes}
        folded: dict[str, str] = {}
        kept = []
        for node in self.nodes:
            for index, name in enumerate(node.input):
                node.input[index] = folded.get(name, name)
            before = made.get(node.input[0])
            same = before is not None and before.op_type == "Conv" and uses[node.input[0]] == 1
            if node.op_type != "BatchNormalization" or before is None or not same:
                kept.append(node)
                continue
            scale, shift, mean, variance = (self.constants.pop(name) for name in node.input[1:])
            factor = scale / np.sqrt(variance.astype(np.float64) + node.attribute[0].f)
            kernel, bias = before.input[1:]
            self.constant(kernel, self.constants[kernel] * factor[:, None, None, None])
            self.constant(bias, (self.constants[bias] - mean) * factor + shift)
            folded[node.output[0]] = before.output[0]
        self.nodes = kept

    def finish(self, outputs: dict[str, str]) -> onnx.ModelProto:
        """Return the checked model; `outputs` are names in the graph by those to give them."""
        for name, tensor in sorted(outputs.items()):
            self.emit("Identity", [tensor], name)
        self.fold_normalisation()
        faces = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", *self.shape])
        rows = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(EMOTIONS)])
            for name in sorted(outputs)
        ]
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        body = helper.make_graph(self.nodes, "emotions", [faces], rows, constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION, producer_name="trainer")
        onnx.checker.check_model(model, full_check=True)
        return model


def flat(args: Any) -> list[Any]:
    """Return tensors and numbers of a layer's arguments, in order."""
    if isinstance(args, Tensor):
        return [args]
    return [one for part in args for one in flat(part)] if isinstance(args, list | tuple) else [args]


def rescaling(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    scale, offset = (by_channel(value, inputs[0]) for value in (layer.scale, layer.offset))
    scaled = graph.emit("Mul", [inputs[0].name, graph.constant(f"{name}.scale", scale)], f"{name}.scaled")
    if not np.any(offset):
        return scaled
    return graph.emit("Add", [scaled, graph.constant(f"{name}.offset", offset)], name)


def normalization(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(not layer.invert)
    spread = np.maximum(np.sqrt(values(layer.variance)), 1e-7)  # Keras's epsilon
    mean = graph.constant(f"{name}.mean", by_channel(values(layer.mean), inputs[0]))
    scale = graph.constant(f"{name}.scale", by_channel(1 / spread, inputs[0]))
    return graph.emit("Mul", [graph.emit("Sub", [inputs[0].name, mean], f"{name}.centred"), scale], name)


def convolution(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    """Conv2D, DepthwiseConv2D, and SeparableConv2D as a depthwise one and one of 1x1."""
    require(layer.data_format == "channels_last")
    kind, source = type(layer).__name__, inputs[0].name
    kernel = values(layer.depthwise_kernel if kind == "SeparableConv2D" else layer.kernel)
    window = {"kernel_shape": layer.kernel_size, "strides": layer.strides, "dilations": layer.dilation_rate}
    groups = layer.groups if kind == "Conv2D" else kernel.shape[2]
    window |= {"auto_pad": padding(layer), **({"group": groups} if groups > 1 else {})}
    if kind != "Conv2D":  # Keras has (height, width, channels, multiplier) here
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    kernel = kernel.transpose(3, 2, 0, 1)
    if kind == "SeparableConv2D":
        none = np.zeros(len(kernel), np.float32)
        source = convolved(graph, f"{name}.depthwise", source, kernel, none, window)
        kernel, window = values(layer.pointwise_kernel).transpose(3, 2, 0, 1), {}
    bias = values(layer.bias) if layer.use_bias else np.zeros(len(kernel), np.float32)
    return activated(graph, layer.activation, convolved(graph, name, source, kernel, bias, window), name)


def convolved(
    graph: Graph, name: str, source: str, kernel: NDArray[Any], bias: NDArray[Any], window: dict[str, Any]
) -> str:
    constants = graph.constant(f"{name}.kernel", kernel), graph.constant(f"{name}.bias", bias)
    return graph.emit("Conv", [source, *constants], name, **window)


def dense(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(len(inputs[0].shape) == 2)
    bias = values(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32)
    weights = graph.constant(f"{name}.weights", values(layer.kernel))
    constants = [weights, graph.constant(f"{name}.bias", bias)]
    return activated(graph, layer.activation, graph.emit("Gemm", [inputs[0].name, *constants], name), name)


def batch_normalisation(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    channels = inputs[0].shape[-1]
    require(layer.axis in (-1, len(inputs[0].shape) - 1))
    parts = {
        "scale": values(layer.gamma) if layer.scale else np.ones(channels or 0),
        "shift": values(layer.beta) if layer.center else np.zeros(channels or 0),
        "mean": values(layer.moving_mean),
        "variance": values(layer.moving_variance),
    }
    names = [graph.constant(f"{name}.{part}", value) for part, value in parts.items()]
    return graph.emit("BatchNormalization", [inputs[0].name, *names], name, epsilon=layer.epsilon)


def pooling(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(layer.data_format == "channels_last")
    kind = type(layer).__name__.replace("Pooling2D", "Pool")
    window = {"kernel_shape": layer.pool_size, "strides": layer.strides}
    return graph.emit(kind, [inputs[0].name], name, **window, auto_pad=padding(layer))


def global_pooling(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(layer.data_format == "channels_last")
    kind = type(layer).__name__.replace("Pooling2D", "Pool")
    if layer.keepdims:
        return graph.emit(kind, [inputs[0].name], name)
    pooled = graph.emit(kind, [inputs[0].name], f"{name}.pooled")
    return graph.emit("Squeeze", [pooled, graph.axes()], name)


def relu(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(not layer.threshold and not (layer.negative_slope and layer.max_value is not None))
    if layer.max_value is not None:
        return clipped(graph, inputs[0].name, name, float(layer.max_value))
    if layer.negative_slope:
        return leaky_relu(graph, layer, name, inputs)
    return graph.emit("Relu", [inputs[0].name], name)


def leaky_relu(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    return graph.emit("LeakyRelu", [inputs[0].name], name, alpha=float(layer.negative_slope))


def elu(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    return graph.emit("Elu", [inputs[0].name], name, alpha=float(layer.alpha))


def prelu(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    slope = values(layer.alpha)
    if slope.ndim == 3:
        slope = slope.transpose(2, 0, 1)
    return graph.emit("PRelu", [inputs[0].name, graph.constant(f"{name}.slope", slope)], name)


def activation(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(layer.activation.__name__ != "softmax" or len(inputs[0].shape) == 2)
    return activated(graph, layer.activation, inputs[0].name, name)


def softmax(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(layer.axis == -1 and len(inputs[0].shape) == 2)
    return graph.emit("Softmax", [inputs[0].name], name + ".softmax", axis=-1)


def reshape(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    """Keras's order of numbers has channels last, so they are brought there in between."""
    shape, channels = tuple(layer.target_shape), inputs[0].shape[-1]
    if len(inputs[0].shape) == 2 and shape == (1, 1, channels):
        return graph.emit("Unsqueeze", [inputs[0].name, graph.axes()], name)
    require(-1 not in shape)
    source = channels_last(graph, inputs[0], name)
    wanted = graph.constant(f"{name}.shape", [-1, *shape], np.int64)
    if len(shape) != 3:
        return graph.emit("Reshape", [source, wanted], name)
    last = graph.emit("Reshape", [source, wanted], f"{name}.reshaped")
    return graph.emit("Transpose", [last], name, perm=(0, 3, 1, 2))


def flatten(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    """Flatten with channels last, the order of the next layer's weights."""
    return graph.emit("Flatten", [channels_last(graph, inputs[0], name)], name)


def channels_last(graph: Graph, tensor: Tensor, name: str) -> str:
    if len(tensor.shape) != 4:
        return tensor.name
    return graph.emit("Transpose", [tensor.name], f"{name}.last", perm=(0, 2, 3, 1))


def zero_padding(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    require(layer.data_format == "channels_last")
    (top, bottom), (left, right) = layer.padding
    sizes = graph.constant(f"{name}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    return graph.emit("Pad", [inputs[0].name, sizes], name)


def concatenate(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    rank = len(inputs[0].shape)
    axis = layer.axis % rank
    if rank == 4:
        axis = {0: 0, 1: 2, 2: 3, 3: 1}[axis]
    return graph.emit("Concat", [tensor.name for tensor in inputs], name, axis=axis)


def unchanged(graph: Graph, layer: Any, name: str, inputs: list[Tensor]) -> str:
    return inputs[0].name


def merge(graph: Graph, layer: Any, name: str, inputs: list[Any]) -> str:
    """Join tensors number by number: layers of two and more, and arithmetic with numbers."""
    tensors = [one for one in inputs if isinstance(one, Tensor)]
    require(len({len(tensor.shape) for tensor in tensors}) == 1)
    names = [
        one.name
        if isinstance(one, Tensor)
        else graph.constant(f"{name}.{number}", by_channel(one, tensors[0]))
        for number, one in enumerate(inputs)
    ]
    kind = MERGES[type(layer).__name__]
    if kind in ("Max", "Min"):
        return graph.emit(kind, names, name)
    require(len(names) == 2 or (kind != "Sub" and kind != "Div"))
    found = names[0]
    for number, other in enumerate(names[1:], 1):
        found = graph.emit(kind, [found, other], name if number == len(names) - 1 else f"{name}.{number}")
    return found


MERGES: Final = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Maximum": "Max",
    "Minimum": "Min",
    "Divide": "Div",
    "TrueDivide": "Div",
}
"""Operators by the names of Keras's layers, and of its operations on tensors, which `x / 127.5` makes."""

NODES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {}),
    "tanh": ("Tanh", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "exponential": ("Exp", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
}
"""Activations that are one operator, with its attributes."""


def activated(graph: Graph, function: Any, output: str, name: str) -> str:
    """Apply an activation to `output`."""
    kind = function.__name__
    if kind == "linear":
        return output
    after = f"{name}.{kind}"
    if kind == "relu6":
        return clipped(graph, output, after, 6.0)
    if kind == "silu":
        return graph.emit("Mul", [output, graph.emit("Sigmoid", [output], f"{after}.share")], after)
    if kind == "gelu":
        half = graph.emit("Mul", [output, graph.constant(f"{after}.half", 0.5)], f"{after}.halved")
        root = graph.constant(f"{after}.root", math.sqrt(0.5))
        error = graph.emit("Erf", [graph.emit("Mul", [output, root], f"{after}.scaled")], f"{after}.erf")
        share = graph.emit("Add", [error, graph.constant(f"{after}.one", 1.0)], f"{after}.share")
        return graph.emit("Mul", [half, share], after)
    require(kind in NODES)
    operator, attributes = NODES[kind]
    return graph.emit(operator, [output], after, **attributes)


def clipped(graph: Graph, output: str, name: str, greatest: float) -> str:
    bounds = [graph.constant(f"{name}.least", 0.0), graph.constant(f"{name}.greatest", greatest)]
    return graph.emit("Clip", [output, *bounds], name)


def by_channel(value: Any, tensor: Tensor) -> NDArray[Any]:
    """Return one number, or one a channel, in a shape that goes with `tensor` in the graph."""
    found = np.asarray(value, np.float32)
    if found.size == 1:
        return found.reshape(())
    require(found.size == found.shape[-1] == tensor.shape[-1])
    return found.reshape((1, -1, 1, 1) if len(tensor.shape) == 4 else (1, -1))


def padding(layer: Any) -> str:
    """Return the layer's padding in ONNX's terms."""
    return {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]


def values(variable: Any) -> NDArray[Any]:
    from keras import ops  # slow to import, which a mistyped path should not cost

    return np.asarray(ops.convert_to_numpy(variable))


def require(condition: bool) -> None:
    """Raise NotImplementedError unless `condition` holds."""
    if not condition:
        raise NotImplementedError


WRITERS: Final[dict[str, Callable[[Graph, Any, str, list[Any]], str]]] = {
    "Rescaling": rescaling,
    "Normalization": normalization,
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D", "SeparableConv2D"), convolution),
    "BatchNormalization": batch_normalisation,
    **dict.fromkeys(("MaxPooling2D", "AveragePooling2D"), pooling),
    **dict.fromkeys(("GlobalMaxPooling2D", "GlobalAveragePooling2D"), global_pooling),
    "Dense": dense,
    "Flatten": flatten,
    "Reshape": reshape,
    "ZeroPadding2D": zero_padding,
    "Concatenate": concatenate,
    **dict.fromkeys(MERGES, merge),
    "Activation": activation,
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "PReLU": prelu,
    "ELU": elu,
    "Softmax": softmax,
    **dict.fromkeys(
        (
            *("Identity", "Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout"),
            *("ActivityRegularization", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
            *("RandomContrast", "RandomBrightness"),
        ),
        unchanged,
    ),
}
"""By kind of layer, a function that adds it to the graph: the layer, its name there, and its inputs, tensors
and for arithmetic numbers; it returns the name of the output."""
