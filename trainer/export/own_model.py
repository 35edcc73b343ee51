"""A Keras classifier of one's own, with its labels and its way to take pixels, as a model of the pipeline."""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.common.errors import UserError
from pipeline.common.files import sha256, write_json
from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import SIZES, card_path, new_card
from trainer.command_line import command_line, option
from trainer.data.pictures import emotion_of, unknown_emotion
from trainer.export.graph import Graph, by_channel, check_same, noise, write_onnx
from trainer.models.build import multiply_adds
from trainer.scoring.network import OnnxModel, load_keras_file

OTHERS: Final = ("contempt", "other", "unknown", "none")
"""What a model may know besides the seven emotions: its share is divided among these."""
SUFFIXES: Final = (".keras", ".h5", ".hdf5")
PIXELS: Final = (0.0, 255.0)
"""What black and white are to a model that has its normalisation inside."""
LEAST: Final = 1e-9
"""Added to each share before it is divided by their sum, which may be 0."""


class OwnModel(NamedTuple):
    """A Keras `model` of the file `path`, and what its numbers mean.

    `labels` are the emotions of its outputs, "" for others. A pixel of 0 to 255 becomes `low` to `high`. With
    `bgr`, colours come as in OpenCV. `ends_with` is what its outputs are.
    """

    path: Path
    model: Any
    labels: tuple[str, ...]
    low: float
    high: float
    bgr: bool
    ends_with: str = "probabilities"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a face."""
        _, height, width, channels = self.model.input_shape
        return height, width, channels

    @property
    def selection(self) -> NDArray[np.float32]:
        """(outputs, 7): 1 where an output is an emotion."""
        return np.array([[label == emotion for emotion in EMOTIONS] for label in self.labels], np.float32)

    @property
    def divided(self) -> bool:
        """Whether what is selected has to be divided by its sum."""
        return "" in self.labels or self.ends_with == "sigmoids"


def export_own(args: argparse.Namespace) -> None:
    """Write FILE.onnx and its card for a Keras model without one. Raises UserError if it can't be used."""
    own = open_own(args)
    faces = noise(own.shape)
    raw = raw_outputs(own, faces)
    own = own._replace(ends_with=kind_of(raw))
    made = to_onnx(own)
    check_same(
        emotions(own, raw), OnnxModel(made.SerializeToString()).predict_on_batch(faces)["fer2013"], own.path
    )
    missing = [emotion for emotion in EMOTIONS if emotion not in own.labels]
    card = {
        **new_card(None, ("fer2013",), own.shape),
        "onnx": {
            **write_onnx(made, own.path, "float32"),
            "command": made_by(args),
            "versions": {name: version(name) for name in ("keras", "onnx", "onnxruntime")},
        },
        "name": own.path.stem,
        "parameters": own.model.count_params(),
        "multiply_adds": multiply_adds(own.model) or 0,
        "not_learned": {"fer2013": missing} if missing else {},
        "made_from": {
            "file": own.path.name,
            "sha256": sha256(own.path),
            "outputs": [label or "another" for label in own.labels],
            "black_and_white": [own.low, own.high],
            "colours": "grey" if own.shape[2] == 1 else "BGR" if own.bgr else "RGB",
            "ends_with": own.ends_with,
        },
    }
    write_json(card_path(own.path), card)
    size, _, channels = own.shape
    print(
        f"{own.path}: {size}x{size} {'grey' if channels == 1 else 'colour'}, its outputs are {own.ends_with}"
    )
    if missing:
        print(f"it does not know {', '.join(missing)}")
    print(f"wrote {own.path.with_suffix('.onnx')} and its card {card_path(own.path)}")


def open_own(args: argparse.Namespace) -> OwnModel:
    """Return the model with what the options say of it. Raises UserError for what can't be exported."""
    path: Path = args.model
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected a Keras model, a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a Keras model")
    labels = output_labels(args.labels)
    model = load_keras_file(path)
    check_form(model, len(labels), path)
    if args.range is None and not normalises(model):
        raise UserError(
            f"{path}: has no layer that scales pixels; say what black and white were in its training: "
            "--range 0 1, --range -1 1, or --range 0 255 for pixels as they are"
        )
    low, high = args.range or PIXELS
    return OwnModel(path, model, labels, low, high, args.bgr)


def output_labels(words: list[str]) -> tuple[str, ...]:
    """Return the emotions of `--labels`, "" for OTHERS. Raises UserError for unknown and repeated ones."""
    names = [name.strip() for name in ",".join(words).split(",") if name.strip()]
    for name in names:
        if emotion_of(name) is None and name.lower() not in OTHERS:
            raise unknown_emotion("--labels", name, f"name one of these, or {', '.join(OTHERS)}")
    labels = tuple(emotion_of(name) or "" for name in names)
    known = [label for label in labels if label]
    if len(set(known)) < len(known) or len(known) < 2:
        raise UserError(f"--labels: expected two emotions or more, each once, found {', '.join(names)}")
    return labels


def check_form(model: Any, labels: int, path: Path) -> None:
    """Raise UserError unless a model takes square faces and gives a number for each label."""
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    taken = [tuple(one.shape) for one in inputs]
    given = [tuple(one.shape) for one in outputs]
    if not (
        len(taken) == 1
        and len(taken[0]) == 4
        and taken[0][1] == taken[0][2]
        and taken[0][1] in SIZES
        and taken[0][3] in (1, 3)
    ):
        raise UserError(
            f"{path}: expected one input of square faces, {SIZES[0]} to {SIZES[-1]} pixels, grey or colour, "
            f"as (None, 64, 64, 1) is, found {str(taken)[:80]}"
        )
    if len(given) != 1 or len(given[0]) != 2:
        raise UserError(f"{path}: expected one output, a number for each label, found {str(given)[:80]}")
    if given[0][1] != labels:
        raise UserError(
            f"{path}: expected as many --labels as the model has outputs, {given[0][1]}, found {labels}; "
            f"name all in their order, one that is no emotion as {OTHERS[1]}"
        )


def normalises(model: Any) -> bool:
    """Return whether a layer of the model scales pixels, so that it takes them as they are."""
    found = False
    for layer in getattr(model, "_flatten_layers", lambda: model.layers)():
        found = found or type(layer).__name__ in ("Rescaling", "Normalization")
    operations = getattr(getattr(model, "_functional", None) or model, "operations", [])
    return found or any(type(one).__name__ in ("Divide", "TrueDivide") for one in operations)


def raw_outputs(own: OwnModel, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what Keras computes of faces (n, size, size, 1 or 3), RGB: (n, outputs)."""
    pixels = faces[..., ::-1] if own.bgr else faces
    scaled = pixels.astype(np.float32) * ((own.high - own.low) / 255) + own.low
    return np.asarray(own.model.predict_on_batch(scaled), np.float64)


def kind_of(raw: NDArray[np.float64]) -> str:
    """Return what a model's outputs (n, outputs) are: probabilities, sigmoids or logits."""
    if raw.min() >= 0 and np.allclose(raw.sum(axis=1), 1, atol=1e-3):
        return "probabilities"
    return "sigmoids" if raw.min() >= 0 and raw.max() <= 1 else "logits"


def emotions(own: OwnModel, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities (n, 7), in the order of EMOTIONS, of the model's outputs."""
    found = (softmax(raw, axis=1) if own.ends_with == "logits" else raw) @ own.selection
    if own.divided:
        found = (found + LEAST) / (found + LEAST).sum(axis=1, keepdims=True)
    return np.asarray(found)


def to_onnx(own: OwnModel) -> onnx.ModelProto:
    """Return the model in ONNX: uint8 faces, RGB or grey, in; probabilities (n, 7) out. Raises UserError."""
    graph = Graph(own.path, own.shape)
    faces = graph.faces
    if own.bgr:
        order = graph.constant("faces.order", [2, 1, 0], np.int64)
        faces = faces._replace(name=graph.emit("Gather", [faces.name, order], "faces.bgr", axis=1))
    if (own.low, own.high) != PIXELS:
        scale = graph.constant("faces.scale", by_channel((own.high - own.low) / 255, faces))
        scaled = graph.emit("Mul", [faces.name, scale], "faces.scaled")
        low = graph.constant("faces.low", by_channel(own.low, faces))
        faces = faces._replace(name=graph.emit("Add", [scaled, low], "faces.ranged"))
    found = graph.run(own.model, [faces])[0].name
    if own.ends_with == "logits":
        found = graph.emit("Softmax", [found], "emotions.softmax", axis=-1)
    selection = graph.constant("emotions.selection", own.selection)
    found = graph.emit("MatMul", [found, selection], "emotions.selected")
    if own.divided:
        found = graph.emit("Add", [found, graph.constant("emotions.least", LEAST)], "emotions.raised")
        axis = graph.constant("emotions.axis", [1], np.int64)
        total = graph.emit("ReduceSum", [found, axis], "emotions.total", keepdims=1)
        found = graph.emit("Div", [found, total], "emotions.divided")
    return graph.finish({"fer2013": found})


def made_by(args: argparse.Namespace) -> str:
    """Return the command line that writes this file again."""
    interval = None if args.range is None else [f"{value:g}" for value in args.range]
    words = *option("labels", args.labels), *option("range", interval), *option("bgr", args.bgr)
    return command_line("export", str(args.model), *words)
