"""Opens an ONNX file for inference: the detector's and the classifier's alike.

Whatever is wrong with a stranger's file is one line, and a graph that asks for gigabytes does not get them.
"""

import functools
import os
import re
import textwrap
from pathlib import Path
from typing import Final

# Unless this is set before the import, the wheels of ONNX Runtime send usage data to Microsoft and keep an
# identifier in the user's cache directory.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from pipeline.errors import UserError
from stages.onnx_file import check_onnx_file

MAX_MEMORY: Final = 2 << 30
"""Bytes that all sessions of a process may have together for what they compute. YuNet takes 0.1 GB for a
frame of 1280×736, 0.7 GB for 4K and 2.1 GB, just less than this, for 8K; the emotion model 0.5 GB for 1,024
faces."""


def open_session(path: Path, data: bytes, threads: int, what: str) -> ort.InferenceSession:
    """Return a session over the graph in `data`, the content of the file at `path`.

    threads: of ONNX Runtime, 1 or more; 0 leaves the choice to it. what: the setting that names the file,
    for errors. Raises UserError if it is not an ONNX file that is accepted (docs/models.md). Whether its
    graph can be run at all, and in MAX_MEMORY, is seen when it is run: see `reason`.
    """
    check_onnx_file(path, data, what)
    _limit_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Memory laid out for each size of input ever seen takes 16 MB at 832×640, and saves no time.
    options.enable_mem_pattern = False
    # A thread that spins between two calls takes the core of the next stage.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Otherwise a file that is also a model in ONNX Runtime's own format is read as that, unchecked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return ort.InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            # It computes during loading, outside the limit of memory. Our networks need none of it.
            disabled_optimizers=["ConstantFolding"],
            enable_fallback=0,  # else it prints what is wrong, and tries again with constants folded
        )
    except Exception as error:  # ONNX Runtime raises a class of its own for each fault
        raise UserError(f"{what}: {path} is not an ONNX model that can be run: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return what ONNX Runtime says over a graph, as a part of one line. The names in it are the file's."""
    text = str(error).strip() or type(error).__name__
    if "bfc_arena" in text or "bad_alloc" in text:
        return f"it needs more than {MAX_MEMORY >> 30} GiB of memory"
    # Its name, its code and where in its sources it was found.
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+ [^()]*\([^()]*\) ", "", text)
    return textwrap.shorten("".join(c if c.isprintable() else " " for c in text), 300, placeholder="…")


@functools.cache
def _limit_memory() -> None:
    """Let all sessions of the process take their memory from one arena, which grows to MAX_MEMORY at most."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    default = -1
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(MAX_MEMORY, default, default, default))
