"""The emotion model on ONNX Runtime: the default."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import Card
from stages.onnx_model import open_session, reason

PROBABILITIES: Final = ("tensor(float)", [len(EMOTIONS)])
"""Type and shape of the outputs, without the first axis, the number of faces."""


class OnnxClassifier:
    """See Classifier."""

    def __init__(
        self, path: Path, data: bytes, card: Card, labels: str, threads: int, fingerprint: str
    ) -> None:
        """data: the file's content. labels: the output to use. threads: 0 leaves the choice to ONNX Runtime.

        Raises UserError if it can't be loaded, or has another input or other outputs than its card says.
        """
        self.fingerprint, self.crop_shape = fingerprint, card.crop_shape
        self._shape = tuple(card.input.shape)
        self._session = open_session(path, data, threads, "classify.model")
        self._labels = [labels]
        self._input = self._check_form(path, card.outputs)
        self._check_run(path)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Classifier."""
        (probabilities,) = self._session.run(
            self._labels, {self._input: crops.reshape(len(crops), *self._shape)}
        )
        return np.asarray(probabilities, np.float32)

    def _check_form(self, path: Path, outputs: Sequence[str]) -> str:
        """Return the input's name. Raises UserError for another form than the card's."""
        shape_text = ", ".join(map(str, self._shape))
        inputs, found = self._session.get_inputs(), self._session.get_outputs()
        names = [output.name for output in found]
        if sorted(names) != sorted(outputs):
            raise UserError(
                f"{path}: outputs {', '.join(outputs)} expected, as its card says, "
                f"{', '.join(names)[:80]!r} found; take model and card from the same place"
            )
        faces = ("tensor(uint8)", list(self._shape))
        forms = [(faces, node) for node in inputs] + [(PROBABILITIES, node) for node in found]
        for (kind, shape), node in forms:
            if len(inputs) != 1 or (node.type, node.shape[1:]) != (kind, shape) or _is_fixed(node.shape):
                raise UserError(
                    f"{path}: expected one input (faces, {shape_text}) uint8 and outputs "
                    f"(faces, {len(EMOTIONS)}) float, found {node.name[:80]!r} {node.shape} {node.type}"
                )
        return str(inputs[0].name)

    def _check_run(self, path: Path) -> None:
        """Raise UserError if two black faces do not give two rows of probabilities."""
        try:
            shape = self(np.zeros((2, *self.crop_shape), np.uint8)).shape
        except Exception as error:  # ONNX Runtime raises a class of its own for each fault
            raise UserError(
                f"classify.model: {path} is not an ONNX model that can be run: {reason(error)}"
            ) from error
        if shape != (2, len(EMOTIONS)):
            raise UserError(f"{path}: (2, {len(EMOTIONS)}) probabilities of 2 faces expected, {shape} found")


def _is_fixed(shape: Sequence[int | str | None]) -> bool:
    """Whether the number of faces is a number, so that no batch of another size can be run."""
    return not shape or isinstance(shape[0], int)
