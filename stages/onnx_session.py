"""Opens an ONNX file for inference: the detector's and the classifier's alike."""

from pathlib import Path

import onnxruntime as ort

from pipeline.errors import UserError, first_line


def open_session(path: Path, data: bytes, threads: int, what: str) -> ort.InferenceSession:
    """Return a session over the graph in `data`, the content of the file at `path`.

    threads: of ONNX Runtime, 1 or more; 0 leaves the choice to it. what: the setting that names the file,
    for errors. Raises UserError if it is not an ONNX graph that can be run.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # A thread that spins between two calls takes the core of the next stage.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises a class of its own for each fault
        raise UserError(
            f"{what}: {path} is not an ONNX model that can be run: {first_line(error)}"
        ) from error
