"""The command `export`: a Keras model for ONNX Runtime, in float32 or int8."""

import argparse
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console

from pipeline.common.errors import UserError
from pipeline.common.files import replacing, sha256, write_json
from pipeline.common.labels import FACE_SIZE
from trainer.card import card_path, read_card
from trainer.data.dataset import Material, read_material
from trainer.data.votes import majority
from trainer.export.graph import to_onnx
from trainer.quiet import load_keras
from trainer.scoring.network import OnnxModel, predictions

TOLERANCE: Final = 1e-5
"""Of a probability: far more than rounding makes of it."""


def checked_onnx(model: Any, path: Path) -> onnx.ModelProto:
    """The Keras `model` of the file `path` in ONNX, float32, once it gives the same probabilities.

    Raises UserError for a network that can't be written.
    """
    made = to_onnx(model, path)
    shape = (8, FACE_SIZE, FACE_SIZE, 1)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = predictions(model, noise)
    found = predictions(OnnxModel(made.SerializeToString()), noise)
    difference = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path}: expected the same probabilities of ONNX Runtime to {TOLERANCE}, found a difference of "
            f"{difference:.2g}; use a model that `python -m trainer fit` wrote"
        )
    return made


def write_onnx(made: onnx.ModelProto, model: Path, precision: str) -> dict[str, Any]:
    """Write `made` beside the Keras file `model`; returns the card's entry. Raises UserError."""
    path = model.with_suffix(".onnx")
    with replacing(path) as temporary:
        temporary.write_bytes(made.SerializeToString(deterministic=True))
    return {"file": path.name, "sha256": sha256(path), "precision": precision}


# ---- The command `export`: a Keras model for ONNX Runtime, in float32 or int8.


PICTURES: Final = 1024
"""To calibrate with; four times as many came out no better."""
SEED: Final = 0
"""Of which training pictures those are."""
FIGURES: Final = {"top-1": "top1", "macro-F1": "macro_f1", "ECE": "ece"}


def export_command(chosen: argparse.Namespace) -> None:
    """Run `export` as `chosen`. Raises UserError for a model or data that can't be used."""
    card = read_card(chosen.model)
    check_options(chosen)
    material = read_material(chosen.data, chosen.votes) if chosen.int8 else None
    load_keras()
    from trainer.export.command import checked_onnx, write_onnx
    from trainer.scoring.network import check_outputs, load_model

    model = load_model(chosen.model)
    check_outputs(card, model, chosen.model)
    made = checked_onnx(model, chosen.model)
    more: dict[str, Any] = {}
    if material is not None:
        made, more = quantise(made, material)
    entry = {
        **write_onnx(made, chosen.model, "float32" if material is None else "int8"),
        "command": command(chosen),
        "versions": {name: version(name) for name in ("onnx", "onnxruntime")},
        **more,
    }
    write_json(card_path(chosen.model), card | {"onnx": entry})
    show(entry, chosen.model)


def check_options(chosen: argparse.Namespace) -> None:
    """Raise UserError for options that don't go together."""
    if chosen.int8 and chosen.data is None:
        raise UserError("--int8: expected FER2013, to calibrate with its training pictures; give --data")
    if not chosen.int8 and (chosen.data or chosen.votes):
        raise UserError("--data and --votes: expected with --int8 only, found without; leave them out")


def quantise(made: onnx.ModelProto, material: Material) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """`made` in int8, and what the card says of how it was calibrated and what that cost."""
    from trainer.export import int8

    faces = calibration_faces(material)
    quantised, kept = int8.to_int8(made, faces)
    calibration = {
        "data": {"name": material.path.resolve().name, "sha256": material.sha256},
        "part": "train",
        "pictures": len(faces),
        "seed": SEED,
        "ranges": f"mean of the least and greatest values of batches of {int8.BATCH}",
        "channels_evened_by": int8.EVENING,
        "activations": "uint8, one scale a tensor",
        "weights": "int8 of 7 bits, one scale a channel",
        "float32_layers": kept,
    }
    return quantised, {"calibration": calibration, "against_float32": compare(made, quantised, material)}


def calibration_faces(material: Material) -> NDArray[np.uint8]:
    """PICTURES of the training pictures, or all of them if they are fewer."""
    pixels = material.parts["train"].pixels
    return pixels[np.random.default_rng(SEED).permutation(len(pixels))[:PICTURES]]


def compare(before: onnx.ModelProto, after: onnx.ModelProto, material: Material) -> dict[str, Any]:
    """Agreement and loss of `after` against `before` on validation, by set of labels, fractions of 1.

    "agreement" is the share of pictures that both give the same emotion. A positive loss is a worse figure.
    """
    from trainer.scoring.metrics import judge, judged_figures, truths
    from trainer.scoring.network import OnnxModel, predictions

    faces = material.parts["validation"]
    people = None if material.votes is None else majority(material.votes["validation"])
    if people is not None and not (people >= 0).any():
        people = None
    old, new = (predictions(OnnxModel(model.SerializeToString()), faces.pixels) for model in (before, after))
    found: dict[str, Any] = {"part": "validation", "pictures": len(faces)}
    for label_set, truth in truths(faces, people).items():
        pair = [judge(label_set, truth, predicted) for predicted in (old, new)]
        figures = [judged_figures(judged, faces.names, halved=True) for judged in pair]
        output = pair[0].output
        found[label_set] = {
            "agreement": float((old[output].argmax(axis=1) == new[output].argmax(axis=1)).mean()),
            **{key: loss(figures[0][key], figures[1][key], key) for key in FIGURES.values()},
        }
    return found


def loss(before: float, after: float, key: str) -> dict[str, float]:
    """The figure `key` of both models, and by how much it is worse."""
    return {"float32": before, "int8": after, "loss": after - before if key == "ece" else before - after}


def command(chosen: argparse.Namespace) -> str:
    """The command line that makes this file anew."""
    words = ["python", "-m", "trainer", "export", str(chosen.model)]
    if chosen.int8:
        words += ["--int8", "--data", str(chosen.data)]
    if chosen.votes is not None:
        words += ["--votes", str(chosen.votes)]
    return shlex.join(words)


def show(entry: dict[str, Any], model: Path) -> None:
    """Print what was written and, of int8, what it cost."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for label_set, found in entry.get("against_float32", {}).items():
        if isinstance(found, dict):
            console.print(f"{label_set}: {found['agreement']:.2%} of the labels are those of float32")
            for name, key in FIGURES.items():
                row = found[key]
                console.print(f"  {name:<9} {row['int8']:.4f}, float32 {row['float32']:.4f}")
    path = model.with_suffix(".onnx")
    console.print(f"wrote {path}, {entry['precision']}, and its entry in {card_path(model)}")
