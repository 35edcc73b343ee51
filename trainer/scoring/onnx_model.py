"""A network in an ONNX file, used as Keras's are here."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class OnnxModel:
    """The network in `data`, the content of an ONNX file, on one thread of ONNX Runtime.

    It has those methods of a Keras model that scoring uses. Raises whatever ONNX Runtime does for other data.
    """

    def __init__(self, data: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # it raises besides
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]
        self._outputs = self._session.get_outputs()

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """As Keras has it: None for an axis of any length."""
        return shape_of(self._input)

    def compute_output_shape(self, _: Any) -> dict[str, tuple[int | None, ...]]:
        """The outputs' shapes by name."""
        return {output.name: shape_of(output) for output in self._outputs}

    def predict_on_batch(self, faces: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The outputs by name for `faces` (n, 48, 48, 1) uint8, n at least 1."""
        found = self._session.run(None, {self._input.name: faces})
        return dict(zip((output.name for output in self._outputs), found, strict=True))


def shape_of(value: Any) -> tuple[int | None, ...]:
    """Of an input or output; an axis with a name instead of a length is None."""
    return tuple(length if isinstance(length, int) else None for length in value.shape)
