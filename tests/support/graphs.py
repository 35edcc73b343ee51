"""Small ONNX graphs for tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def node(operator: str, inputs: Sequence[str], **attributes: Any) -> NodeProto:
    """A node whose output is y."""
    return helper.make_node(operator, inputs, ["y"], **attributes)


def graph_of(nodes: Sequence[NodeProto], **weights: Any) -> onnx.ModelProto:
    """A model of input x, float32 (n, 3, height, width), and output y."""
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    pixels = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "height", "width"])
    output = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph(nodes, "stranger", [pixels], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def plain() -> onnx.ModelProto:
    """A network as an exporter may write it."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", "b", "b", "b", "one"], ["bn"]),
        helper.make_node("Relu", ["bn"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["m", "", "scales"], ["up"], mode="nearest"),
        helper.make_node("GlobalAveragePool", ["up"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "dense"], ["logits"]),
        node("Softmax", ["logits"]),
    ]
    random = np.random.default_rng(0)
    return graph_of(
        nodes,
        w=random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        b=np.zeros(4, np.float32),
        one=np.ones(4, np.float32),
        scales=np.array([1, 1, 2, 2], np.float32),
        dense=random.normal(size=(4, 7)).astype(np.float32),
    )


def quantised() -> onnx.ModelProto:
    """int8, as onnxruntime.quantization writes it: QDQ, weights per channel, zero points in int32_data."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["dw"], axis=0),
        helper.make_node("Conv", ["d", "dw"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["qc"]),
        node("DequantizeLinear", ["qc", "scale", "zero"]),
    ]
    model = graph_of(nodes, w=np.full((4, 3, 1, 1), 3, np.int8))
    model.graph.initializer.extend([
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.02]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [128]),
        helper.make_tensor("w_scale", TensorProto.FLOAT, [4], [0.1] * 4),
        helper.make_tensor("w_zero", TensorProto.INT8, [4], [0] * 4),
    ])  # fmt: skip
    return model
