"""A model file becomes a network whose input and outputs are those that the trainer knows."""

import os
import platform
import statistics
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pipeline.common.errors import UserError, first_line
from pipeline.common.labels import EMOTIONS, FACE_SIZE, LABEL_SETS
from trainer.card import card_path
from trainer.quiet import load_keras


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


# ---- Faces through a network, in batches.


BATCH: Final = 512
"""Bounds the memory; larger ones are no faster on two cores."""


def predictions(model: Any, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What `model` gives, probabilities or logits (n, 7) float32, for faces.

    `pixels` (n, 48, 48, 1) uint8, n at least 1. What is given is by the name of the output.

    A model with one nameless output, as the baseline, was trained on FER2013's labels: "fer2013".
    """
    starts = range(0, len(pixels), BATCH)
    batches = [by_output(model.predict_on_batch(pixels[s : s + BATCH])) for s in starts]
    return {
        name: np.concatenate([np.asarray(batch[name], np.float32) for batch in batches])
        for name in batches[0]
    }


def by_output(found: Any) -> dict[str, Any]:
    """What a model has for its outputs (arrays, shapes …), keyed by the names of LABEL_SETS."""
    return dict(found) if isinstance(found, dict) else {"fer2013": found}


# ---- What a model costs: its size, and how many faces a second it classifies here.


BATCHES: Final = (1, 32)
ROUNDS: Final = 7
FACES_A_ROUND: Final = 64


def size(model: Any, path: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, multiply-adds of one face and bytes of the file `path`, None for what is unknown.

    Of an ONNX file the first two are the Keras model's, as the card has them.
    """
    if isinstance(model, OnnxModel):
        counts = {key: card.get(key) for key in ("parameters", "multiply_adds")}
    else:
        counts = {"parameters": model.count_params(), "multiply_adds": cost(model)}
    return {"file": path.name, **counts, "bytes": path.stat().st_size}


def cost(model: Any) -> int | None:
    """Multiply-adds of one face through a Keras model; None if a layer's are unknown."""
    from trainer.models.build import multiply_adds

    try:
        return multiply_adds(model)
    except NotImplementedError:
        return None


def speed(model: Any) -> dict[str, Any]:
    """Faces a second by size of batch, the median of ROUNDS, and the machine that they are of."""
    rates = {f"batch_{batch}": round(faces_per_second(model, batch), 1) for batch in BATCHES}
    return {"unit": "faces per second", **rates, "rounds": ROUNDS, "machine": machine(model)}


def faces_per_second(model: Any, batch: int) -> float:
    """The median rate of compiled calls with `batch` faces each."""
    faces = np.random.default_rng(0).integers(0, 256, (batch, FACE_SIZE, FACE_SIZE, 1), np.uint8)
    calls = max(FACES_A_ROUND // batch, 1)
    # The first call compiles.
    model.predict_on_batch(faces)
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            model.predict_on_batch(faces)
        rates.append(calls * batch / (time.perf_counter() - started))
    return statistics.median(rates)


def machine(model: Any) -> str:
    """Processor, cores and what runs the model, in words."""
    return f"{processor()}, {os.cpu_count()} cores, {runtime(model)}"


def runtime(model: Any) -> str:
    """What runs `model`, in words."""
    if isinstance(model, OnnxModel):
        return f"ONNX Runtime {version('onnxruntime')} on one thread"
    import keras

    return f"Keras on {keras.backend.backend()}"


def processor() -> str:
    """The processor's name as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


# ---- A model file becomes a network whose input and outputs are those that the trainer knows.


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
