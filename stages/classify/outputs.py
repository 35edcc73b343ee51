"""The outputs of a model that has been loaded: one for each set of labels that it has learnt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.emotions import EMOTIONS, FACE_SIZE
from pipeline.errors import UserError

INPUT_SHAPE: Final = (None, FACE_SIZE, FACE_SIZE, 1)
OUTPUT_SHAPE: Final = (None, len(EMOTIONS))
SHOWN: Final = 80
"""Characters of what a file holds that an error repeats."""


def output_of(model: Any, labels: str, stated: Sequence[str], path: Path) -> Any:
    """Return the Keras model that computes the output for `labels` of the one from `path`, and no more.

    `stated` are the outputs that its card speaks of. Raises UserError if the model has others, or if its
    input or any output has another shape: uint8 faces (None, 48, 48, 1) in, (None, 7) out.
    """
    import keras  # takes seconds, like TensorFlow

    sequential = isinstance(model, keras.Sequential)  # which has no `output` before it is first called
    found = model.outputs if sequential else model.output
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    # A single tensor is the form of models that know FER2013's labels alone.
    outputs = found if isinstance(found, dict) else {"fer2013": found}
    if set(outputs) != set(stated):
        raise UserError(
            f"{path}: outputs {', '.join(stated)} expected, as its card says, "
            f"{', '.join(outputs)[:SHOWN]!r} found; take model and card from the same place"
        )
    faces = getattr(model, "input_shape", None)
    for name, output in outputs.items():
        shape = getattr(output, "shape", type(output).__name__)
        if (faces, shape) != (INPUT_SHAPE, OUTPUT_SHAPE):
            raise UserError(
                f"{path}: a model from {INPUT_SHAPE} to {OUTPUT_SHAPE} is expected, "
                f"one from {str(faces)[:SHOWN]} to {str(shape)[:SHOWN]} found, output {name}"
            )
    return model if sequential else keras.Model(model.input, outputs[labels])
