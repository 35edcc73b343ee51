"""ONNX files that ONNX Runtime runs, and that are not YuNet or not for any frame."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.detect.spec import DetectSettings
from stages.detect.yunet import YuNetDetector
from stages.onnx_model import MAX_BYTES


def refused(path: Path, *said: str) -> None:
    with pytest.raises(UserError) as caught:
        YuNetDetector(DetectSettings(), path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(text in message for text in ("detect.model", str(path), *said)), message


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for tensor in (*model.graph.input, *model.graph.output):
        if tensor.name == old:
            tensor.name = new


def one_size(model: onnx.ModelProto) -> None:
    sides = model.graph.input[0].type.tensor_type.shape.dim[2:]
    for side in sides:
        side.dim_value = 640


def no_scores(model: onnx.ModelProto) -> None:
    rename(model, "obj_8", "objectness_8")


def landmarks_for_boxes(model: onnx.ModelProto) -> None:
    rename(model, "bbox_8", "spare")
    rename(model, "kps_8", "bbox_8")
    rename(model, "spare", "kps_8")


def half_the_cells(model: onnx.ModelProto) -> None:
    """The maps of 16 px as those of 8 px: right channels, too few cells."""
    for head in ("cls", "obj", "bbox", "kps"):
        rename(model, f"{head}_8", "spare")
        rename(model, f"{head}_16", f"{head}_8")
        rename(model, "spare", f"{head}_16")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_size, "any height and width expected, 640×640 alone found"),
        (no_scores, "obj_8"),
        (landmarks_for_boxes, "bbox_8"),
        (half_the_cells, "_8"),
    ],
)
def test_changed_yunet(
    yunet_path: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    model = onnx.load(yunet_path)
    change(model)
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    refused(path, said)


def test_emotion_model() -> None:
    refused(PROJECT / "models" / "emotion.onnx", "(1, 3, height, width)")


def test_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    refused(path, f"{MAX_BYTES:,} bytes")
