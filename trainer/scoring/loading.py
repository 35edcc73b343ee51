"""A model file becomes a network whose input and outputs are those that the trainer knows."""

from pathlib import Path
from typing import Any, Final

from pipeline.emotions import EMOTIONS, FACE_SIZE, LABEL_SETS
from pipeline.errors import UserError, first_line
from trainer.card import card_path
from trainer.quiet import load_keras
from trainer.scoring.onnx_model import OnnxModel
from trainer.scoring.predict import by_output

FACES: Final = (None, FACE_SIZE, FACE_SIZE, 1)
ROWS: Final = (None, len(EMOTIONS))
ADVICE: Final = "use a model that `python -m trainer fit` wrote"


def open_model(path: Path) -> Any:
    """The network in the file `path`, .onnx or Keras's. Raises UserError as `load_model` does."""
    return load_onnx(path) if path.suffix == ".onnx" else load_model(path)


def load_onnx(path: Path) -> OnnxModel:
    """The network in the ONNX file `path`. Raises UserError as `load_model` does."""
    data = path.read_bytes()
    try:
        model = OnnxModel(data)
    except Exception as error:  # ONNX Runtime raises a class of its own for each fault
        raise UserError(
            f"{path}: expected an ONNX model, found another file ({first_line(error)}); export it anew"
        ) from error
    check_form(model, path)
    return model


def load_model(path: Path) -> Any:
    """The network in Keras's file `path`. Raises UserError if it is none, or has another input or outputs."""
    load_keras()
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: expected a Keras model, found another file ({first_line(error)}); "
            "train or fetch it anew"
        ) from error
    check_form(model, path)
    return model


def check_form(model: Any, path: Path) -> None:
    """Raise UserError unless `model` takes faces and has one output of the seven for each name it knows."""
    if model.input_shape != FACES:
        raise UserError(f"{path}: expected an input {FACES}, found {model.input_shape}; {ADVICE}")
    shapes = outputs(model)
    if not shapes or not set(shapes) <= set(LABEL_SETS) or any(shape != ROWS for shape in shapes.values()):
        raise UserError(
            f"{path}: expected outputs {ROWS} named {' or '.join(LABEL_SETS)}, found {shapes}; {ADVICE}"
        )


def outputs(model: Any) -> dict[str, Any]:
    """The shapes of what `model` has for its outputs, by name."""
    # `model.output_shape` has lost the names, and a Sequential has no `output` before it is called.
    return by_output(model.compute_output_shape(FACES))


def check_outputs(card: dict[str, Any], model: Any, path: Path) -> None:
    """Raise UserError unless the `model` in the file `path` has the outputs that its card says."""
    said, found = card["outputs"], sorted(outputs(model))
    if sorted(said) != found:
        raise UserError(
            f"{card_path(path)}: outputs: expected {found} as in the model, found {said}; "
            "take both from the same place"
        )
