"""The emotion model, compiled once for a few batch sizes."""

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.card import choose_labels, find_model, read_model
from pipeline.emotions import EMOTIONS, FACE_SIZE
from pipeline.errors import UserError, first_line
from pipeline.messages import TOLERANCE
from pipeline.quiet import quiet_native
from pipeline.settings import ClassifySettings
from stages.classify.model_file import check_model_file
from stages.classify.outputs import output_of

_LOADING_FAILS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Keras raises over a config of known layers that makes no sense: nearly anything."""


class Classifier:
    """Crops (n, 48, 48), grey uint8, in; probabilities (n, 7), float32, in the order of EMOTIONS, out."""

    def __init__(self, settings: ClassifySettings, expected: str = "") -> None:
        """Load, compile and run the model once for each batch size.

        Of a model with several outputs only the one for `settings.labels` is computed. With `expected`, a
        sha256, no other model is taken: a run has one from its beginning to its end.
        Raises UserError if the model is missing, broken, without those labels, not what its card says, or not
        one that takes faces and gives emotions.
        """
        path = find_model(settings.model)
        card, data = read_model(path)  # before TensorFlow, which takes seconds to load
        if expected and card.sha256 != expected:
            raise UserError(
                f"{path}: another model than when the run began: sha256 {expected[:12]}… expected, "
                f"{card.sha256[:12]}… found; put the file back, or start the run again"
            )
        labels = choose_labels(card, settings.labels, path)
        weights = check_model_file(path, data)
        self.fingerprint = f"{card.name or path.name} {card.sha256[:16]} {labels}"
        self._sizes = sorted(settings.batch_sizes)

        with quiet_native():
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            try:
                model = output_of(_load(data, weights, path), labels, card.outputs, path)
                self._compiled = {size: _compile(tf, model, size) for size in self._sizes}
                for size in self._sizes:
                    _check_sums(self(np.zeros((size, FACE_SIZE, FACE_SIZE), np.uint8)), path)
            except (*_LOADING_FAILS, tf.errors.OpError) as error:
                raise UserError(f"{path}: can't be loaded as a Keras model: {first_line(error)}") from error

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify any number of crops; the last part is padded to the next batch size."""
        parts = []
        for start in range(0, len(crops), self._sizes[-1]):
            part = crops[start : start + self._sizes[-1]]
            size = next(size for size in self._sizes if size >= len(part))
            padded = np.zeros((size, FACE_SIZE, FACE_SIZE, 1), np.uint8)
            padded[: len(part), :, :, 0] = part
            parts.append(np.asarray(self._compiled[size](padded), np.float32)[: len(part)])
        return np.concatenate(parts) if parts else np.zeros((0, len(EMOTIONS)), np.float32)


def _check_sums(probabilities: NDArray[np.float32], path: Path) -> None:
    """Said here once, rather than by the broker of every answer."""
    sums = probabilities.sum(axis=1)
    if not np.all(np.abs(sums - 1) <= TOLERANCE) or probabilities.min() < 0:
        raise UserError(
            f"{path}: probabilities that add up to 1 are expected, to {sums[0]:.3g} found; "
            "let the model end with a softmax"
        )


def _load(data: bytes, weights: bytes, path: Path) -> Any:
    """Load the model from the very bytes that were checked, whatever has become of the file since."""
    from keras.src.saving import saving_lib  # keras.saving takes paths alone

    from stages.classify.weights_file import check_weights

    check_weights(path, weights)
    return saving_lib.load_model(io.BytesIO(data), compile=False, safe_mode=True)


def _compile(tf: Any, model: Any, size: int) -> Any:
    """Trace the model for one batch size; what is returned takes a uint8 array and gives a tensor."""
    signature = [tf.TensorSpec((size, FACE_SIZE, FACE_SIZE, 1), tf.uint8)]
    function = tf.function(lambda faces: model(faces, training=False), input_signature=signature)
    concrete = function.get_concrete_function()
    return lambda faces: concrete(tf.constant(faces)).numpy()
