"""ONNX files that have the input and the outputs of an emotion model, and can't be used all the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from stages.classify.classifier import open_classifier
from stages.classify.spec import ClassifySettings
from tests.support.models import BOTH, save_onnx, write_card


def save(path: Path, nodes: Sequence[NodeProto], **weights: np.ndarray) -> Path:
    """Write a model from faces to fer2013, and its card; the nodes begin with `pixels`, float32."""
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["n", 48, 48, 1])
    output = helper.make_tensor_value_info("fer2013", TensorProto.FLOAT, ["n", len(EMOTIONS)])
    cast = helper.make_node("Cast", ["faces"], ["pixels"], to=TensorProto.FLOAT)
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph([cast, *nodes], "strange", [faces], [output], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return write_card(path)


def refused(path: Path, said: str) -> None:
    with pytest.raises(UserError) as caught:
        open_classifier(ClassifySettings(model=str(path)))
    message = str(caught.value)
    assert message.isprintable() and str(path) in message and said in message, message


def test_network_that_takes_gigabytes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["planes", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("GlobalAveragePool", ["large"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("Gemm", ["row", "w"], ["fer2013"]),
    ]
    scales, weights = np.float32([1, 1, 1000, 1000]), np.ones((1, 7), np.float32)
    refused(save(tmp_path / "large.onnx", nodes, scales=scales, w=weights), "more than 2 GiB of memory")


def test_network_for_one_face_only(tmp_path: Path) -> None:
    """Which is seen when it is run: ONNX Runtime does not follow a shape through Max."""
    nodes = [
        helper.make_node("Max", ["one", "one"], ["shape"]),
        helper.make_node("Reshape", ["pixels", "shape"], ["row"]),
        helper.make_node("Gemm", ["row", "w"], ["fer2013"]),
    ]
    weights = np.ones((48 * 48, 7), np.float32)
    path = save(tmp_path / "one.onnx", nodes, one=np.int64([1, 48 * 48]), w=weights)
    refused(path, "cannot be reshaped")


def test_output_of_another_shape_than_stated(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["row"]),
        helper.make_node("Gemm", ["row", "w"], ["eight"]),
        helper.make_node("Max", ["wide", "wide"], ["shape"]),
        helper.make_node("Reshape", ["eight", "shape"], ["fer2013"]),
    ]
    weights = np.ones((48 * 48, 8), np.float32)
    path = save(tmp_path / "eight.onnx", nodes, wide=np.int64([-1, 8]), w=weights)
    refused(path, "(2, 8) found")


def test_network_of_another_number_of_emotions(tmp_path: Path) -> None:
    refused(save_onnx(tmp_path / "eight.onnx", {"fer2013": 2}, values=8), "(faces, 7)")


def test_outputs_are_not_those_of_the_card(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "mine.onnx", {"fer2013": 0})
    write_card(path, outputs=list(BOTH))
    refused(path, "outputs fer2013, consensus expected, as its card says, 'fer2013' found")


def test_fingerprint_tells_labels_apart(tmp_path: Path) -> None:
    """The broker refuses a classifier that shows other labels than the first, though of the same file."""
    path = save_onnx(tmp_path / "both.onnx", BOTH)
    shown = [ClassifySettings(model=str(path), labels=labels) for labels in ("fer2013", "consensus", "auto")]
    fer2013, consensus, auto = (open_classifier(settings).fingerprint for settings in shown)
    assert fer2013 != consensus == auto
