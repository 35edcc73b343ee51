"""Model files as networks that predict; size and speed of a network."""

import functools
import importlib.util
import os
import statistics
import timeit
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pipeline.common.errors import UserError, first_line
from pipeline.common.files import processor
from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import read_card, read_model
from pipeline.common.native_output import quiet_native
from pipeline.common.progress import progress

OUTPUT_SHAPE: Final = (None, len(EMOTIONS))

BATCH: Final = 512
"""Faces a call in `predict`. It bounds the memory; larger batches are no faster on two cores."""
SPEED_BATCHES: Final = (1, 32)
SPEED_ROUNDS: Final = 7
FACES_PER_ROUND: Final = 64


class OnnxModel:
    """An ONNX network on one thread of ONNX Runtime, with the methods of a Keras model that scoring uses.

    `input_shape` is as Keras has it: None for an axis of any length.
    """

    def __init__(self, content: bytes) -> None:
        """content: of an ONNX file. Raises whatever ONNX Runtime raises for other content."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # faults are raised anyway
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.input_shape = _shape(self._session.get_inputs()[0])
        self._output_shapes = {output.name: _shape(output) for output in self._session.get_outputs()}

    def compute_output_shape(self, _: Any) -> dict[str, tuple[int | None, ...]]:
        """Return the shapes of the outputs by name."""
        return self._output_shapes

    def predict_on_batch(self, faces: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return the outputs by name for `faces` (n, 48, 48, 1) uint8, n at least 1."""
        found = self._session.run(None, {self._session.get_inputs()[0].name: faces})
        return dict(zip(self._output_shapes, found, strict=True))


def _shape(value: Any) -> tuple[int | None, ...]:
    return tuple(length if isinstance(length, int) else None for length in value.shape)


def open_model(path: Path) -> Any:
    """Return the network in the model file `path`, .onnx or Keras's.

    Raises UserError if the file is not its card's, holds no network, or another one than the card describes.
    """
    card, content = read_model(path)
    if path.suffix == ".onnx":
        try:
            model: Any = OnnxModel(content)
        except Exception as error:  # ONNX Runtime raises a class of its own for each fault
            raise UserError(
                f"{path}: expected an ONNX model, found another file ({first_line(error)}); export it again"
            ) from error
    else:
        model = load_keras_file(path)
    expected = (None, *card.input.shape)
    if model.input_shape != expected:
        raise UserError(f"{path}: expected an input {expected}, as its card says, found {model.input_shape}")
    # `model.output_shape` has lost the names, and a Sequential has no `output` before it is called.
    shapes = by_output(model.compute_output_shape(expected))
    outputs = dict.fromkeys(card.outputs, OUTPUT_SHAPE)
    if shapes != outputs:
        raise UserError(
            f"{path}: expected outputs {outputs}, as its card says, found {shapes}; "
            "take both from the same place"
        )
    return model


def open_keras_model(path: Path) -> Any:
    """Return the network in the Keras file `path`. Raises UserError as `open_model` does, and for .onnx."""
    if path.suffix == ".onnx":
        raise UserError(f"{path}: expected a Keras model, found an ONNX file")
    return open_model(path)


UNGROUPED: Final = ("DepthwiseConv2D", "Conv2DTranspose")
"""Layers for which Keras 3 refuses a word that Keras 2 has written into every .h5 file."""


@functools.cache
def load_keras() -> None:
    """Import Keras and its backend without their log lines; call it before any module that imports Keras."""
    with progress("loading Keras", 1), quiet_native():  # some seconds, of which none can be counted
        import keras

        keras.ops.zeros(1)  # the first operation starts the backend's devices, which log as well
        if keras.backend.backend() != "tensorflow" and importlib.util.find_spec("tensorflow"):
            importlib.import_module("tensorflow")  # Keras imports it later, to recognise its arrays


def load_keras_file(path: Path) -> Any:
    """Return the network in the Keras file `path`. Raises UserError if it is none."""
    load_keras()
    import keras

    try:
        layers = {name: _of_keras_2(getattr(keras.layers, name)) for name in UNGROUPED}
        return keras.saving.load_model(path, custom_objects=layers, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        said = first_line(error)
        if "No model config found" in said:
            said = "weights alone; save the whole model, with model.save"
        raise UserError(f"{path}: expected a Keras model, found another file ({said})") from error


def _of_keras_2(layer: Any) -> Any:
    """Return a class that reads a configuration of `layer` in which Keras 2 has written `groups`: 1."""

    class Ungrouped(layer):  # type: ignore[misc]
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            groups = config.pop("groups", 1)
            return layer.from_config(config if groups == 1 else config | {"groups": groups})

    return Ungrouped


def predict(model: Any, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of `model` for `pixels` (n, 48, 48, 1) uint8, n at least 1: (n, 7) float32 by name.

    They are probabilities of a complete network, logits of one in training.
    """
    batches = []
    with progress("predicting", len(pixels)) as advance:
        for start in range(0, len(pixels), BATCH):
            faces = as_input(pixels[start : start + BATCH], model.input_shape[1:])
            batches.append(by_output(model.predict_on_batch(faces)))
            advance(len(faces))
    return {
        name: np.concatenate([np.asarray(batch[name], np.float32) for batch in batches])
        for name in batches[0]
    }


def as_input(faces: NDArray[np.uint8], shape: Sequence[int | None]) -> NDArray[np.uint8]:
    """Return grey faces (n, 48, 48, 1) in a model's `shape`, resized as crops are; None leaves them."""
    size, _, channels = shape
    if size not in (None, faces.shape[1]):
        method = cv2.INTER_AREA if size < faces.shape[1] else cv2.INTER_CUBIC
        faces = np.stack([cv2.resize(face, (size, size), interpolation=method) for face in faces])[..., None]
    return faces if channels in (None, faces.shape[-1]) else np.repeat(faces, channels, axis=-1)


def by_output(found: Any) -> dict[str, Any]:
    """Return a model's outputs (arrays or shapes) by name; a single nameless one is of FER2013's labels."""
    return dict(found) if isinstance(found, dict) else {"fer2013": found}


def size(path: Path) -> dict[str, Any]:
    """Return bytes of a model file and, from its card, parameters and multiply-adds of one face, or None."""
    card = read_card(path)
    return {
        "file": path.name,
        "parameters": card.parameters or None,
        "multiply_adds": card.multiply_adds or None,
        "bytes": path.stat().st_size,
    }


def speed(model: Any) -> dict[str, Any]:
    """Return faces a second by batch size, the median of several rounds, and the machine."""
    rates = {}
    with progress("measuring speed", len(SPEED_BATCHES)) as advance:
        for batch in SPEED_BATCHES:
            faces = np.random.default_rng(0).integers(0, 256, (batch, *model.input_shape[1:]), np.uint8)
            calls = FACES_PER_ROUND // batch
            model.predict_on_batch(faces)  # the first call compiles
            one_call = partial(model.predict_on_batch, faces)
            rounds_s = timeit.repeat(one_call, number=calls, repeat=SPEED_ROUNDS)
            advance(1)
            rates[f"batch_{batch}"] = round(calls * batch / statistics.median(rounds_s), 1)
    return {"unit": "faces per second", **rates, "rounds": SPEED_ROUNDS, "machine": machine(model)}


def machine(model: Any) -> str:
    """Return processor, cores and runtime of `model`, in words."""
    if isinstance(model, OnnxModel):
        runtime = f"ONNX Runtime {version('onnxruntime')} on one thread"
    else:
        import keras

        runtime = f"Keras on {keras.backend.backend()}"
    return f"{processor()}, {os.cpu_count()} cores, {runtime}"
