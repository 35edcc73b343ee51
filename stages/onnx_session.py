"""Opens an ONNX file for inference: the detector's and the classifier's alike.

Whatever is wrong with a stranger's file is one line, and a graph that asks for gigabytes does not get them.
"""

import functools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort
from numpy.typing import NDArray

from pipeline.errors import UserError
from stages.onnx_file import check_onnx_file

MAX_MEMORY: Final = 2 << 30
"""Bytes that all sessions of a process may have together for what they compute. YuNet takes 0.1 GB for a
frame of 1280×736, 0.7 GB for 4K and 2.1 GB for 8K (7680×4320); the emotion model 0.5 GB for 1,024 faces."""

Signature = Mapping[str, tuple[str, tuple[int | None, ...]]]
"""Tensors by name: dtype ("float32", "uint8") and shape, None for a dimension that may be of any size."""

_DTYPES: Final = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others' names are numpy's


def open_session(path: Path, data: bytes, threads: int, what: str) -> ort.InferenceSession:
    """Return a session over the graph in `data`, the content of the file at `path`.

    threads: of ONNX Runtime, 1 or more; 0 leaves the choice to it. what: the setting that names the file,
    for errors. Raises UserError if the file is not one that is loaded, or not an ONNX graph. Whether the
    graph can be computed, and in MAX_MEMORY, is known after `first_run`.
    """
    check_onnx_file(path, data, what)
    _limit_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # A thread that spins between two calls takes the core of the next stage.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Else what is a model in ONNX Runtime's own format too is read as that, which nothing has checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return ort.InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            # It computes while it loads, outside the limit of memory. The graphs of our models are the same
            # without it.
            disabled_optimizers=["ConstantFolding"],
        )
    except Exception as error:  # ONNX Runtime raises a class of its own for each fault
        raise UserError(f"{what}: {path} can't be loaded: {_reason(error)}") from error


def check_signature(
    session: ort.InferenceSession, inputs: Signature, outputs: Signature, path: Path, what: str
) -> None:
    """Raise UserError unless inputs and outputs of a session are the ones expected.

    A size that the file leaves open fits any: what it gives is seen when it is run.
    """
    for name, expected, found in (
        ("inputs", inputs, session.get_inputs()),
        ("outputs", outputs, session.get_outputs()),
    ):
        if {tensor.name for tensor in found} != expected.keys():
            listed = ", ".join(sorted(repr(tensor.name[:80]) for tensor in found)[:20])
            raise UserError(f"{what}: {path}: {name} {', '.join(sorted(expected))} expected, {listed} found")
        for tensor in found:
            dtype, shape = expected[tensor.name]
            fits = len(shape) == len(tensor.shape) and all(
                size == wanted or not isinstance(size, int)
                for size, wanted in zip(tensor.shape, shape, strict=True)
            )
            if not fits or _dtype(tensor) != dtype:
                raise UserError(
                    f"{what}: {path}: {tensor.name} of {dtype} {_sizes(shape)} expected, "
                    f"{_dtype(tensor)} {_sizes(tensor.shape)} found"
                )


def first_run(
    session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]], path: Path, what: str
) -> dict[str, NDArray[Any]]:
    """Run a session for the first time and return its outputs by name.

    Raises UserError if it can't be run, as one that needs more memory than MAX_MEMORY.
    """
    try:
        found = session.run(None, dict(inputs))
    except Exception as error:  # ONNX Runtime raises a class of its own for each fault
        raise UserError(f"{what}: {path} can't be run: {_reason(error)}") from error
    return dict(zip((output.name for output in session.get_outputs()), found, strict=True))


@functools.cache
def _limit_memory() -> None:
    """Have all sessions of the process take their memory from one arena that can't grow beyond MAX_MEMORY."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    default = -1
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(MAX_MEMORY, default, default, default))


def _dtype(tensor: Any) -> str:
    return _DTYPES.get(tensor.type, str(tensor.type).removeprefix("tensor(").removesuffix(")"))


def _sizes(shape: Any) -> str:
    return f"({', '.join(str(size) if isinstance(size, int) else '?' for size in shape)})"


def _reason(error: Exception) -> str:
    """What ONNX Runtime says, as a part of one line; the names in it are the file's."""
    text = str(error).strip() or type(error).__name__
    if "bfc_arena" in text or "bad_alloc" in text:
        return f"it needs more than {MAX_MEMORY >> 30} GiB of memory"
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+ ", "", text)
    return textwrap.shorten("".join(c if c.isprintable() else " " for c in text), 300, placeholder="…")
