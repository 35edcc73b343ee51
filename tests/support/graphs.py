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
