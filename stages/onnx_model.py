"""Opens the ONNX files of detector and classifier for inference.

Files are not trusted: each is checked before ONNX Runtime reads it, and the memory of its graph is limited.
"""

import functools
import math
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

# Without it, ONNX Runtime's wheels send usage data to Microsoft and store an identifier in the user's cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from pipeline.common.errors import UserError

MAX_BYTES: Final = 1 << 27
"""Of a file. The emotion model has 5 MB; ONNX Runtime needs about three times the file's size in memory."""

MAX_FIELDS: Final = 1 << 17
"""Protobuf fields of a file: an empty message of two bytes becomes a hundred in memory. The emotion model has
1,500, and 5,400 when quantised."""

MAX_NODES: Final = 4096

MAX_TEXT: Final = 1024
"""Bytes of a name."""

MAX_NUMBER: Final = 1 << 20
"""Largest dimension, and largest magnitude of an integer attribute."""

MAX_DIMENSIONS: Final = 8

OPERATORS: Final = frozenset((
    "Conv", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization",
    "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceSum",
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus",
    "Softsign", "Erf", "Gelu", "Clip", "Softmax", "LogSoftmax",
    "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Reciprocal", "Max", "Min",
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Gather", "Pad", "Resize",
    "Shape", "Cast", "Identity", "Constant", "QuantizeLinear", "DequantizeLinear",
))  # fmt: skip
"""Operators of ONNX's own domain that are accepted. Left out are those that contain graphs (If, Loop, Scan),
strings or random numbers; those that only enlarge a tensor (Expand, Tile, ConstantOfShape, Range); and those
with which a file can crash ONNX Runtime 1.32: Split with `num_outputs` below the number of its outputs,
InstanceNormalization of an empty tensor."""

OPTIONAL: Final = frozenset(("Clip", "Resize"))
"""Operators that may have an input without a name, which leaves it out. ONNX Runtime 1.32 crashes where the
operator needs it (Max, Min, LayerNormalization)."""

_TYPES: Final = {
    1: (4, "float_data"), 2: (1, "int32_data"), 3: (1, "int32_data"), 4: (2, "int32_data"),
    5: (2, "int32_data"), 6: (4, "int32_data"), 7: (8, "int64_data"), 9: (1, "int32_data"),
    10: (2, "int32_data"), 11: (8, "double_data"),
}  # fmt: skip
"""By TensorProto.DataType (float, (u)int8, (u)int16, int32, int64, bool, float16, double): the bytes of a
number in `raw_data`, and the field that has the numbers if that has not."""

_BROKEN: Final = "it is cut off, or not an ONNX model"

# The fields of each message: name and type. "int", "float", "bytes" (also for what is not read) and "text"
# are protobuf's own types; names of messages begin with a capital; "*": repeated; "!": refused.
_MESSAGES: Final[dict[str, dict[int, tuple[str, str]]]] = {
    "Model": {
        1: ("ir_version", "int"), 2: ("producer_name", "text"), 3: ("producer_version", "text"),
        4: ("domain", "text"), 5: ("model_version", "int"), 6: ("doc_string", "bytes"),
        7: ("graph", "Graph"), 8: ("opset_import", "Opset*"), 14: ("metadata_props", "Entry*"),
        20: ("training info", "!"), 25: ("functions of its own", "!"),
    },
    "Opset": {1: ("domain", "text"), 2: ("version", "int")},
    "Entry": {1: ("key", "text"), 2: ("value", "bytes")},
    "Graph": {
        1: ("node", "Node*"), 2: ("name", "text"), 5: ("initializer", "Tensor*"),
        10: ("doc_string", "bytes"), 11: ("input", "ValueInfo*"), 12: ("output", "ValueInfo*"),
        13: ("value_info", "ValueInfo*"), 15: ("sparse weights", "!"), 16: ("metadata_props", "Entry*"),
    },
    "Node": {
        1: ("input", "text*"), 2: ("output", "text*"), 3: ("name", "text"), 4: ("op_type", "text"),
        5: ("attribute", "Attribute*"), 6: ("doc_string", "bytes"), 7: ("domain", "text"),
        9: ("metadata_props", "Entry*"),
    },
    "Attribute": {
        1: ("name", "text"), 2: ("f", "float"), 3: ("i", "int"), 4: ("s", "bytes"), 5: ("t", "Tensor"),
        6: ("a graph within its graph", "!"), 7: ("floats", "float*"), 8: ("ints", "int*"),
        11: ("graphs within its graph", "!"), 13: ("doc_string", "bytes"), 20: ("type", "int"),
        22: ("sparse weights", "!"),
    },
    "Tensor": {
        1: ("dims", "int*"), 2: ("data_type", "int"), 4: ("float_data", "bytes"), 5: ("int32_data", "bytes"),
        7: ("int64_data", "bytes"), 8: ("name", "text"), 9: ("raw_data", "bytes"),
        10: ("double_data", "bytes"), 12: ("doc_string", "bytes"), 13: ("weights in another file", "!"),
        14: ("data_location", "int"), 16: ("metadata_props", "Entry*"),
    },
    "ValueInfo": {
        1: ("name", "text"), 2: ("type", "Type"), 3: ("doc_string", "bytes"),
        4: ("metadata_props", "Entry*"),
    },
    "Type": {1: ("tensor_type", "TensorType"), 6: ("denotation", "bytes")},
    "TensorType": {1: ("elem_type", "int"), 2: ("shape", "Shape")},
    "Shape": {1: ("dim", "Dimension*")},
    "Dimension": {1: ("dim_value", "int"), 2: ("dim_param", "text"), 3: ("denotation", "bytes")},
}  # fmt: skip

_WIRE_TYPES: Final = {"int": 0, "float": 5}  # else 2: a length and that many bytes

_Message = dict[str, list[Any]]
"""The values of a message's fields, by name."""


class _RefusedError(Exception):
    """Why a file is not loaded."""


def check_onnx_file(path: Path, data: bytes, what: str) -> None:
    """Raise UserError if ONNX Runtime should not be given the file at `path`, of content `data`.

    what: the setting that names it, for the error.
    """
    try:
        if len(data) > MAX_BYTES:
            raise _RefusedError(f"at most {MAX_BYTES:,} bytes are accepted, it has more")
        _check_model(_Reader().read(memoryview(data), "Model"))
    except _RefusedError as error:
        raise UserError(
            f"{what}: {path} is refused: {error}; docs/models.md lists what is accepted of an ONNX file"
        ) from error


class _Reader:
    """Parses protobuf messages and counts their fields."""

    def __init__(self) -> None:
        self._fields = 0

    def read(self, data: memoryview, name: str) -> _Message:
        """Return the message `name` in `data`.

        Unlike protobuf's own parser, it refuses unknown fields, and a second value of a field that has one.
        """
        message = _Message()
        for number, wire_type, value in self._split(data):
            field, kind = _MESSAGES[name].get(number, (f"an unknown field ({number} of {name})", "!"))
            if kind == "!":
                raise _RefusedError(f"it has {field}")
            kind, repeated, _ = kind.partition("*")
            if wire_type != _WIRE_TYPES.get(kind, 2) or (field in message and not repeated):
                raise _RefusedError(f"its field {name}.{field} is repeated or of the wrong wire type")
            message.setdefault(field, []).append(self._value(value, kind))
        return message

    def _value(self, value: Any, kind: str) -> Any:
        if kind in _MESSAGES:
            return self.read(value, kind)
        if kind != "text":
            return value
        if len(value) > MAX_TEXT:
            raise _RefusedError(f"it has a name of {len(value):,} bytes, at most {MAX_TEXT:,} are accepted")
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise _RefusedError(_BROKEN) from error

    def _split(self, data: memoryview) -> Iterator[tuple[int, int, Any]]:
        """Yield number, wire type and value (an integer or bytes) of each field of a message."""
        at = 0
        while at < len(data):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise _RefusedError(f"it has more than {MAX_FIELDS:,} fields")
            key, at = _varint(data, at)
            wire_type = key & 7
            value: Any
            if wire_type == 0:
                value, at = _varint(data, at)
                value -= value >> 63 << 64  # two's complement
            else:
                size, at = (4, at) if wire_type == 5 else _varint(data, at)
                value = data[at : at + size]
                at += size
            if at > len(data) or wire_type not in (0, 2, 5):
                raise _RefusedError(_BROKEN)
            yield key >> 3, wire_type, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the integer at `at`, of 64 bits at most, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128 and value < 1 << 64:
            return value, at
    raise _RefusedError(_BROKEN)


def _check_model(model: _Message) -> None:
    graph: _Message = model.get("graph", [{}])[0]
    nodes, tensors = graph.get("node", []), graph.get("initializer", [])[:]
    if not 0 < len(nodes) <= MAX_NODES:
        raise _RefusedError(f"its graph has {len(nodes):,} nodes, 1 to {MAX_NODES:,} are accepted")
    for node in nodes:
        _check_operator(node)
        for attribute in node.get("attribute", []):
            _check_numbers("an attribute", attribute.get("i", []) + attribute.get("ints", []))
            tensors += attribute.get("t", [])
    for tensor in tensors:
        _check_tensor(tensor)
    for value in graph.get("input", []) + graph.get("output", []) + graph.get("value_info", []):
        _check_shape(_sizes(value))


def _check_operator(node: _Message) -> None:
    domain, operator = (node.get(key, [""])[0] for key in ("domain", "op_type"))
    if domain not in ("", "ai.onnx") or operator not in OPERATORS:
        name = f"{domain}.{operator}".removeprefix(".")
        raise _RefusedError(f"it uses the operator {name[:80]!r}, which is not known")
    required = node.get("output", []) + (node.get("input", []) if operator not in OPTIONAL else [])
    if not all(required):
        raise _RefusedError(f"its operator {operator} lacks an input or output")


def _check_numbers(what: str, numbers: list[int]) -> None:
    for number in numbers:
        if abs(number) > MAX_NUMBER:
            raise _RefusedError(f"{what} is {number}, at most {MAX_NUMBER:,} is accepted")


def _check_shape(shape: list[int]) -> None:
    if len(shape) > MAX_DIMENSIONS:
        raise _RefusedError(
            f"it has a shape of {len(shape):,} dimensions, at most {MAX_DIMENSIONS} are accepted"
        )
    _check_numbers("a dimension", shape)


def _sizes(value: _Message) -> list[int]:
    """Return the shape of an input, output or intermediate value, 0 for a size that is not fixed."""
    for part in ("type", "tensor_type", "shape"):
        value = value.get(part, [{}])[0]
    return [dimension.get("dim_value", [0])[0] for dimension in value.get("dim", [])]


def _check_tensor(tensor: _Message) -> None:
    """Refuse a tensor unless the file has all its numbers."""
    shape, kind = tensor.get("dims", []), tensor.get("data_type", [0])[0]
    if tensor.get("data_location", [0]) != [0]:
        raise _RefusedError("it has weights in another file")
    if kind not in _TYPES:
        raise _RefusedError(f"it has weights of data type {kind}, which is not known")
    _check_shape(shape)
    if min(shape, default=0) < 0 or _stored(tensor, *_TYPES[kind]) != math.prod(shape):
        raise _RefusedError(f"it has weights of shape {shape} that do not hold as many numbers")


def _stored(tensor: _Message, size: int, own: str) -> float:
    """Return how many numbers a tensor stores; -1 if not in one field that suits its type."""
    places = tensor.keys() & {"raw_data", "float_data", "int32_data", "int64_data", "double_data"}
    if not places:
        return 0
    if places == {"raw_data"}:
        return len(tensor["raw_data"][0]) / size
    if places != {own}:
        return -1
    data = np.frombuffer(tensor[own][0], np.uint8)
    if own in ("float_data", "double_data"):
        return len(data) / size
    return int(np.count_nonzero(data < 128))  # only the last byte of a varint is below 128


MAX_MEMORY: Final = 2 << 30
"""Bytes for what all sessions of a process compute. YuNet takes 0.1 GB for a frame of 1280×736, 0.7 GB for 4K
and 2.1 GB, just less than this, for 8K; the emotion model 0.5 GB for 1,024 faces."""


def open_session(path: Path, data: bytes, threads: int, what: str) -> ort.InferenceSession:
    """Return a session over the graph in `data`, the content of the file at `path`.

    threads: of ONNX Runtime; 0 leaves the choice to it. what: the setting that names the file, for errors.
    Raises UserError for a file that is not accepted (docs/models.md). Whether its graph can be run, and in
    MAX_MEMORY, is only known when it is run: see `reason`.
    """
    check_onnx_file(path, data, what)
    _limit_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Memory plans, kept for every input size, take 16 MB at 832×640 and save no time.
    options.enable_mem_pattern = False
    # Threads that spin between calls would keep a core from the other stages.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Else a file that is also valid in ONNX Runtime's own format would be read as that, unchecked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return ort.InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            # Folding constants computes while loading, outside the memory limit; our networks don't need it.
            disabled_optimizers=["ConstantFolding"],
            enable_fallback=0,  # else it prints the error and retries with constants folded
        )
    except Exception as error:  # ONNX Runtime raises a class of its own for each fault
        raise UserError(f"{what}: {path} is not an ONNX model that can be run: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return ONNX Runtime's error as part of one line; names in it come from the file."""
    text = str(error).strip() or type(error).__name__
    if "bfc_arena" in text or "bad_alloc" in text:
        return f"it needs more than {MAX_MEMORY >> 30} GiB of memory"
    # Remove its name, its code and the place in its sources.
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+ [^()]*\([^()]*\) ", "", text)
    return textwrap.shorten("".join(c if c.isprintable() else " " for c in text), 300, placeholder="…")


@functools.cache
def _limit_memory() -> None:
    """Make all sessions of the process share one arena of at most MAX_MEMORY."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    default = -1
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(MAX_MEMORY, default, default, default))
