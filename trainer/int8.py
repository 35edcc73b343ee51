"""Quantisation of a float32 ONNX network to int8 after training (Nagel et al. 2021, arXiv:2106.08295).

QDQ, weights per channel, activations per tensor. The weights have 7 bits: x86 without VNNI adds two products
of 8 by 8 bits in 16 bits, which overflow; with 7 bits they don't, and every processor gets the same sums.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_utils,
    quantize_static,
)

from pipeline.common.progress import progress
from trainer.model_file import OnnxModel
from trainer.onnx_graph import INPUT

BATCH: Final = 64
"""Faces a batch; a range has the least and the greatest activation of each batch."""
EQUALISATION: Final = 0.5
"""A channel is scaled by its share of the range to this power. With 1 all channels would have the same range,
but the weights would differ more."""
SMALLEST_FACTOR: Final = 0.01
"""For channels that are nearly zero."""

QUANTISED: Final = ("Conv", "Relu", "MaxPool", "Add", "Mul", "GlobalAveragePool")
CHANNELWISE: Final = ("Relu", "MaxPool", "Add", "Mul", "GlobalAveragePool", "Squeeze")
"""Operators that commute with a positive factor for each channel; the second input of Mul has no factor."""


class Calibration(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Faces (n, 48, 48, 1) uint8 in batches, in ONNX Runtime's interface."""

    def __init__(self, faces: NDArray[np.uint8]) -> None:
        self.batches = batches(faces, "calibrating")

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch by the name of the input; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


def to_int8(model: onnx.ModelProto, faces: NDArray[np.uint8]) -> tuple[onnx.ModelProto, list[str]]:
    """Return the float32 `model`, made by `to_onnx`, in int8, and the names of layers that stay in float32.

    Those are the first convolution, which is faster so, and the dense ones. The ranges of the activations are
    measured on `faces` (n, 48, 48, 1) uint8, n at least 1.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    pool_before_relu(prepared)
    kept = kept_in_float(prepared)
    equalise_channels(prepared, faces, kept)
    quant_utils.add_pre_process_metadata(prepared)  # or it warns that the graph could be simplified
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(prepared, before)
        quantize_static(
            before,
            after,
            Calibration(faces),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # The mean of the batches' least and greatest values, not the extremes: outliers matter less.
            extra_options={"CalibMovingAverage": True},
        )
        made = onnx.load(after)
    weighted = [node for node in prepared.graph.node if node.op_type in ("Conv", "Gemm")]
    return made, [node.name for node in weighted if node.op_type == "Gemm" or node.name in kept]


def batches(faces: NDArray[np.uint8], text: str) -> Iterator[NDArray[np.uint8]]:
    """Yield `faces` in batches, and show under `text` how far it is."""
    with progress(text, len(faces)) as advance:
        for start in range(0, len(faces), BATCH):
            yield faces[start : start + BATCH]
            advance(min(BATCH, len(faces) - start))


def first_layer(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the first convolution and the Relu and MaxPool that directly follow it, if any, in order."""
    nodes = model.graph.node
    line = [next(node for node in nodes if node.op_type == "Conv")]
    while len(users := using(nodes, {line[-1].output[0]})) == 1 and users[0].op_type in ("Relu", "MaxPool"):
        line.append(users[0])
    return line


def using(nodes: Iterable[onnx.NodeProto], tensors: set[str]) -> list[onnx.NodeProto]:
    """Return the `nodes` with one of the `tensors` as an input."""
    return [node for node in nodes if tensors & set(node.input)]


def pool_before_relu(model: onnx.ModelProto) -> None:
    """Swap Relu and MaxPool after the first convolution, if there are any; the result is the same.

    ONNX Runtime moves a quantisation from behind MaxPool to before it, and quantised pooling is much slower.
    """
    line = first_layer(model)
    if [node.op_type for node in line[1:]] != ["Relu", "MaxPool"]:
        return
    convolution, relu, pool = line
    between, after = relu.output[0], pool.output[0]
    pool.input[0], pool.output[0] = convolution.output[0], between
    relu.input[0], relu.output[0] = between, after
    nodes = list(model.graph.node)
    first, second = nodes.index(relu), nodes.index(pool)
    nodes[first], nodes[second] = pool, relu
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Return the names of QUANTISED nodes to exclude: the first layer and those outside the body."""
    body = set().union(*groups(model)) - {node.output[0] for node in first_layer(model)}
    return [
        node.name for node in model.graph.node if node.output[0] not in body and node.op_type in QUANTISED
    ]


def groups(model: onnx.ModelProto) -> list[set[str]]:
    """Return the tensors of the convolutional body, in groups whose channels can only be scaled together."""
    found: dict[str, set[str]] = {}
    for node in model.graph.node:
        output = node.output[0]
        if node.op_type == "Conv":
            found[output] = {output}
        elif node.op_type in CHANNELWISE and commutes(node, found):
            joined = set().union({output}, *(found[name] for name in node.input if name in found))
            found |= dict.fromkeys(joined, joined)
    return list({id(group): group for group in found.values()}.values())


def commutes(node: onnx.NodeProto, found: dict[str, set[str]]) -> bool:
    """Return whether the output of `node` scales with its inputs, given the tensors `found` so far."""
    scaled = [name in found for name in node.input]
    return all(scaled) if node.op_type == "Add" else scaled[0] and not any(scaled[1:])


def equalise_channels(model: onnx.ModelProto, faces: NDArray[np.uint8], kept: list[str]) -> None:
    """Scale the channels of the activations towards one range, and the surrounding weights inversely.

    A tensor has one step size, so channels with a small range have few steps. The network's result stays the
    same (cross-layer equalisation: Nagel et al. 2019, arXiv:1906.04721, here with ranges of activations).
    """
    ranges = channel_ranges(model, faces, kept)
    weights = {constant.name: constant for constant in model.graph.initializer}
    for group in groups(model):
        users = using(model.graph.node, group)
        known = all(node.op_type in ("Conv", "Gemm") or node.output[0] in group for node in users)
        shares = [ranges[name] / (ranges[name].max() or 1) for name in sorted(group & ranges.keys())]
        if not known or not shares:
            continue
        factors = np.maximum(np.max(shares, axis=0) ** EQUALISATION, SMALLEST_FACTOR)
        for node in model.graph.node:
            if node.op_type == "Conv" and node.output[0] in group:
                scale(weights[node.input[1]], 1 / factors[:, None, None, None])
                scale(weights[node.input[2]], 1 / factors)
            if node.op_type == "Conv" and node.input[0] in group:
                scale(weights[node.input[1]], factors[:, None, None])
            if node.op_type == "Gemm" and node.input[0] in group:
                scale(weights[node.input[1]], factors[:, None])


def scale(constant: onnx.TensorProto, factors: NDArray[np.float64]) -> None:
    """Multiply a float32 constant in place."""
    product = (numpy_helper.to_array(constant) * factors).astype(np.float32)
    constant.CopyFrom(numpy_helper.from_array(product, constant.name))


def channel_ranges(
    model: onnx.ModelProto, faces: NDArray[np.uint8], kept: list[str]
) -> dict[str, NDArray[np.float64]]:
    """Return the greatest magnitude by channel on `faces`, by name of the tensors that will be quantised."""
    nodes = [node for node in model.graph.node if node.op_type in QUANTISED and node.name not in kept]
    body = set().union(*groups(model))
    body -= {name for node in model.graph.node if node.op_type == "Relu" for name in node.input}
    tensors = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output))
    names = [name for name in tensors if name in body]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    network = OnnxModel(watched.SerializeToString())
    found: dict[str, Any] = dict.fromkeys(names, 0.0)
    for batch in batches(faces, "measuring ranges"):
        for name, value in network.predict_on_batch(batch).items():
            found[name] = np.maximum(found[name], np.abs(value).max(axis=(0, 2, 3)))
    return found
