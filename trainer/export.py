"""The command `export`: write a Keras model for ONNX Runtime, one of the trainer's or of one's own."""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.files import sha256, write_json
from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import SIZES, card_path, new_card, read_all_keys
from trainer.dataset import Dataset, read_dataset
from trainer.model_file import OnnxModel, load_keras_file, open_keras_model, predict
from trainer.onnx_graph import checked_onnx, functional, write_onnx
from trainer.pictures import emotions_named
from trainer.votes import majority

PICTURES: Final = 1024
"""Training pictures to calibrate with; four times as many gave no better result."""
SEED: Final = 0
"""For the choice of those pictures."""
METRICS: Final = {"top-1": "top1", "macro-F1": "macro_f1", "ECE": "ece"}

OTHERS: Final = ("contempt", "other", "unknown", "none")
"""What a model may know besides the seven emotions: its share is divided among these."""
SUFFIXES: Final = (".keras", ".h5", ".hdf5")


def run(args: argparse.Namespace) -> None:
    """Run `export`. Raises UserError for a model or data that can't be used."""
    if args.labels is not None:
        export_own(args)
        return
    if args.range is not None or args.bgr:
        raise UserError("--range and --bgr: for a model of your own, which needs --labels")
    card = read_all_keys(args.model)
    if args.int8 and args.data is None:
        raise UserError("--int8: needs FER2013, to calibrate with its training pictures; give --data")
    if not args.int8 and (args.data or args.votes):
        raise UserError("--data and --votes: only used with --int8; leave them out")
    dataset = read_dataset(args.data, args.votes) if args.int8 else None
    made = checked_onnx(open_keras_model(args.model), args.model)
    more: dict[str, Any] = {}
    if dataset is not None:
        made, more = quantise(made, dataset)
    entry = {
        **write_onnx(made, args.model, "float32" if dataset is None else "int8"),
        "command": args.command_line,
        "versions": {name: version(name) for name in ("onnx", "onnxruntime")},
        **more,
    }
    write_json(card_path(args.model), card | {"onnx": entry})
    print_report(entry, args.model)


def quantise(made: onnx.ModelProto, dataset: Dataset) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return `made` in int8, and for the card its calibration and its loss."""
    from trainer import int8

    faces = calibration_faces(dataset)
    quantised, kept = int8.to_int8(made, faces)
    calibration = {
        "data": {"name": dataset.path.resolve().name, "sha256": dataset.sha256},
        "part": "train",
        "pictures": len(faces),
        "seed": SEED,
        "ranges": f"mean of the least and greatest values of batches of {int8.BATCH}",
        "channels_evened_by": int8.EQUALISATION,
        "activations": "uint8, one scale a tensor",
        "weights": "int8 of 7 bits, one scale a channel",
        "float32_layers": kept,
    }
    return quantised, {"calibration": calibration, "against_float32": compare(made, quantised, dataset)}


def calibration_faces(dataset: Dataset) -> NDArray[np.uint8]:
    """Return PICTURES of the training pictures, or all of them if there are fewer."""
    pixels = dataset.parts["train"].pixels
    return pixels[np.random.default_rng(SEED).permutation(len(pixels))[:PICTURES]]


def compare(before: onnx.ModelProto, after: onnx.ModelProto, dataset: Dataset) -> dict[str, Any]:
    """Return agreement and loss of `after` against `before` on validation, by label set, fractions of 1.

    "agreement" is the share of pictures for which both predict the same emotion. A positive loss is a worse
    score.
    """
    from trainer.metrics import label_sets, score, with_labels

    faces = dataset.parts["validation"]
    consensus = None if dataset.votes is None else majority(dataset.votes["validation"])
    old, new = (predict(OnnxModel(model.SerializeToString()), faces.pixels) for model in (before, after))
    found: dict[str, Any] = {"part": "validation", "pictures": len(faces)}
    for label_set, labels in label_sets(faces, consensus).items():
        pair = [with_labels(label_set, labels, predicted) for predicted in (old, new)]
        float32, int8 = (score(predictions, faces.names, halved=True) for predictions in pair)
        output = pair[0].output
        found[label_set] = {
            "agreement": float((old[output].argmax(axis=1) == new[output].argmax(axis=1)).mean()),
            **{
                key: {
                    "float32": float32[key],
                    "int8": int8[key],
                    "loss": int8[key] - float32[key] if key == "ece" else float32[key] - int8[key],
                }
                for key in METRICS.values()
            },
        }
    return found


def print_report(entry: dict[str, Any], model: Path) -> None:
    """Print the written files and, for int8, its loss."""
    for label_set, found in entry.get("against_float32", {}).items():
        if isinstance(found, dict):
            print(f"{label_set}: {found['agreement']:.2%} of the labels are those of float32")
            for name, key in METRICS.items():
                row = found[key]
                print(f"  {name:<9} {row['int8']:.4f}, float32 {row['float32']:.4f}")
    path = model.with_suffix(".onnx")
    print(f"wrote {path}, {entry['precision']}, and its entry in {card_path(model)}")


def export_own(args: argparse.Namespace) -> None:
    """Write FILE.onnx and its card for a Keras model of one's own. Raises UserError if it can't be used."""
    path, labels = args.model, emotions_named(args.labels, OTHERS)
    if sum(map(bool, labels)) < 2:
        raise UserError(f"--labels: expected two emotions or more, found {' '.join(args.labels)}")
    check_files(args)
    model = load_keras_file(path)
    check_form(model, len(labels), path)
    if args.range is None and not normalises(model):
        raise UserError(
            f"{path}: has no layer that scales pixels; say what black and white were in its training: "
            "--range 0 1, --range -1 1, or --range 0 255 for pixels as they are"
        )
    from trainer.networks import multiply_adds, seven_probabilities

    low, high = args.range or (0.0, 255.0)
    made, ends_with = seven_probabilities(model, labels, low, high, args.bgr)
    size, _, channels = shape = model.input_shape[1:]
    missing = [emotion for emotion in EMOTIONS if emotion not in labels]
    card = {
        **new_card(None, ("fer2013",), shape),
        "onnx": {
            **write_onnx(checked_onnx(made, path), path, "float32"),
            "command": args.command_line,
            "versions": {name: version(name) for name in ("keras", "onnx", "onnxruntime")},
        },
        "name": path.stem,
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model) or 0,
        "not_learned": {"fer2013": missing} if missing else {},
        "made_from": {
            "file": path.name,
            "sha256": sha256(path),
            "outputs": [label or "another" for label in labels],
            "black_and_white": [low, high],
            "colours": "grey" if channels == 1 else "BGR" if args.bgr else "RGB",
            "ends_with": ends_with,
        },
    }
    write_json(card_path(path), card)
    print(f"{path}: {size}x{size} {'grey' if channels == 1 else 'colour'}, its outputs are {ends_with}")
    if missing:
        print(f"it does not know {', '.join(missing)}")
    print(f"wrote {path.with_suffix('.onnx')} and its card {card_path(path)}")


def check_files(args: argparse.Namespace) -> None:
    """Raise UserError for a file that can't be one's own model, and for options that don't apply to one."""
    path, card = args.model, card_path(args.model)
    if args.int8 or args.data or args.votes:
        raise UserError("--labels: for a model of your own, which is written in float32 without data")
    if card.exists() and b'"made_from"' not in card.read_bytes():
        raise UserError(
            f"{card}: is a card that no export with --labels has written; leave --labels out or move it"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected a Keras model, a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a Keras model")


def check_form(model: Any, labels: int, path: Path) -> None:
    """Raise UserError unless a model takes square faces and gives a number for each label."""
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    taken = [tuple(one.shape) for one in inputs]
    given = [tuple(one.shape) for one in outputs]
    size, channels = taken[0][1::2] if [len(one) for one in taken] == [4] else (0, 0)
    if size not in SIZES or size != taken[0][2] or channels not in (1, 3):
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
    operations = getattr(functional(model), "operations", [])
    return found or any(type(one).__name__ in ("Divide", "TrueDivide") for one in operations)
