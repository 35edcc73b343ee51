"""The emotion model on Keras and TensorFlow, for whoever has them and names a .keras file."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError, first_line
from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import Card
from pipeline.common.native_output import quiet_native

OUTPUT_SHAPE: Final = (None, len(EMOTIONS))
SHOWN: Final = 80
"""Characters of what a file holds that an error repeats."""


def output_of(model: Any, labels: str, card: Card, path: Path) -> Any:
    """Return the Keras model that computes the output for `labels` of the one from `path`, and no more.

    Raises UserError if the model has other outputs than its card says, or if its input or any output has
    another shape: uint8 faces, as (None, 48, 48, 1), in, (None, 7) out.
    """
    import keras  # takes seconds, like TensorFlow

    sequential = isinstance(model, keras.Sequential)  # which has no `output` before it is first called
    found = model.outputs if sequential else model.output
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    # A single tensor is the form of models that know FER2013's labels alone.
    outputs = found if isinstance(found, dict) else {"fer2013": found}
    if set(outputs) != set(card.outputs):
        raise UserError(
            f"{path}: outputs {', '.join(card.outputs)} expected, as its card says, "
            f"{', '.join(outputs)[:SHOWN]!r} found; take model and card from the same place"
        )
    faces, expected = getattr(model, "input_shape", None), (None, *card.input.shape)
    for name, output in outputs.items():
        shape = getattr(output, "shape", type(output).__name__)
        if (faces, shape) != (expected, OUTPUT_SHAPE):
            raise UserError(
                f"{path}: a model from {expected} to {OUTPUT_SHAPE} is expected, "
                f"one from {str(faces)[:SHOWN]} to {str(shape)[:SHOWN]} found, output {name}"
            )
    return model if sequential else keras.Model(model.input, outputs[labels])


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


class KerasClassifier:
    """See Classifier."""

    def __init__(
        self, path: Path, data: bytes, card: Card, labels: str, threads: int, fingerprint: str
    ) -> None:
        """data: the file's content. labels: the output that is used.

        threads: of TensorFlow; 0 leaves the choice to it. Raises UserError if TensorFlow is not installed, or
        the model can't be loaded or has another input or other outputs.
        """
        if find_spec("tensorflow") is None:
            raise UserError(
                f"{path}: a .keras model needs TensorFlow: pip install -r requirements-train.txt, "
                "or set classify.model to the .onnx file beside it"
            )
        from stages.classify.keras_file import check_model_file

        self.fingerprint, self.crop_shape = fingerprint, card.crop_shape
        self._shape = tuple(card.input.shape)
        weights = check_model_file(path, data)
        with quiet_native():
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            try:
                model = output_of(_load(data, weights, path), labels, card, path)
                self._run = _compile(tf, model, self._shape)
                self(np.zeros((1, *self.crop_shape), np.uint8))
            except (*_LOADING_FAILS, tf.errors.OpError) as error:
                raise UserError(f"{path}: can't be loaded as a Keras model: {first_line(error)}") from error

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Classifier."""
        return np.asarray(self._run(crops.reshape(len(crops), *self._shape)), np.float32)


def _load(data: bytes, weights: bytes, path: Path) -> Any:
    """Load the model from the very bytes that were checked, whatever has become of the file since."""
    from keras.src.saving import saving_lib  # keras.saving takes paths alone

    from stages.classify.keras_file import check_weights

    check_weights(path, weights)
    return saving_lib.load_model(io.BytesIO(data), compile=False, safe_mode=True)


def _compile(tf: Any, model: Any, shape: tuple[int, ...]) -> Any:
    """Trace the model for any number of faces; what is returned takes uint8 (n, *shape)."""
    signature = [tf.TensorSpec((None, *shape), tf.uint8)]
    function = tf.function(lambda faces: model(faces, training=False), input_signature=signature)
    concrete = function.get_concrete_function()
    return lambda faces: concrete(tf.constant(faces)).numpy()
