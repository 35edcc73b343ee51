"""Emotion models for tests, made in milliseconds, with their cards."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.common.labels import EMOTIONS, FACE_SIZE

BOTH = {"fer2013": "sad", "consensus": "happy"}
"""What each output of a model says of every face."""

CONFIDENCE = float(np.exp(2) / (np.exp(2) + 6))
"""How certain it is of it: a logit of 2, where the others are 0."""


def save_onnx(
    path: Path,
    outputs: Mapping[str, str | int],
    *,
    size: int = FACE_SIZE,
    values: int = 7,
    channels: int = 1,
    **stated: Any,
) -> Path:
    """Write a network of one layer from uint8 faces to `values` probabilities, and its card.

    stated: other keys of the card.
    outputs: for each, the emotion that it gives every face, or the seed of its random weights.
    """
    pixels = size * size * channels
    constants = [
        numpy_helper.from_array(np.float32(1 / 255), "scale"),
        numpy_helper.from_array(np.array([-1, pixels], np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["row"]),
    ]
    for name, says in outputs.items():
        weights, biases = _layer(says, pixels, values)
        constants.append(numpy_helper.from_array(weights, f"{name}/w"))
        constants.append(numpy_helper.from_array(biases, f"{name}/b"))
        nodes.append(helper.make_node("Gemm", ["row", f"{name}/w", f"{name}/b"], [f"{name}/logits"]))
        nodes.append(helper.make_node("Softmax", [f"{name}/logits"], [name], axis=-1))
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["n", size, size, channels])
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", values]) for name in outputs]
    graph = helper.make_graph(nodes, "emotions", [faces], rows, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return write_card(path, outputs=list(outputs), **stated)


def _layer(says: str | int, pixels: int, values: int) -> tuple[Any, Any]:
    """Weights (pixels, values) and biases of an output."""
    if isinstance(says, int):
        random = np.random.default_rng(says)
        return random.normal(0, 0.05, (pixels, values)).astype(np.float32), np.zeros(values, np.float32)
    return np.zeros((pixels, values), np.float32), 2 * np.eye(values, dtype=np.float32)[EMOTIONS.index(says)]


def write_card(model: Path, **changed: Any) -> Path:
    """Write the card that fits a model file, .onnx or .keras; return the model's path."""
    found = {"file": model.name, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    card = {
        "format": 1,
        "name": model.stem,
        "labels": list(EMOTIONS),
        "input": {"shape": [FACE_SIZE, FACE_SIZE, 1], "dtype": "uint8"},
        **({"onnx": {**found, "precision": "float32"}} if model.suffix == ".onnx" else found),
    }
    model.with_suffix(".json").write_text(json.dumps(card | changed), encoding="utf-8")
    return model


def save_keras(path: Path, outputs: Mapping[str, str] = BOTH, more: int = 0, softmax: bool = True) -> None:
    """Write a Keras model, untrained, laid out as the trainer's are; with `more` values in its last output.

    Called in a process of its own: the tests load no TensorFlow.
    """
    import keras
    from keras import layers

    faces = keras.Input((FACE_SIZE, FACE_SIZE, 1), dtype="uint8")
    seen = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(faces))
    found = {}
    for name, emotion in outputs.items():
        values = len(EMOTIONS) + more * (name == list(outputs)[-1])
        biases = 3.0 * np.eye(values)[EMOTIONS.index(emotion)]
        head = layers.Dense(
            values, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(biases.tolist())
        )
        logits = layers.Rescaling(1 / 1.5)(head(seen))
        found[name] = layers.Softmax(name=name)(logits) if softmax else layers.Identity(name=name)(logits)
    keras.Model(faces, found).save(path)
