"""The command `export`: write a Keras model for ONNX Runtime, in float32 or int8."""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.files import write_json
from pipeline.common.model_card import card_path, read_all_keys
from trainer.backend import load_keras
from trainer.command_line import command_line, option
from trainer.data.dataset import Dataset, read_dataset
from trainer.data.votes import majority
from trainer.scoring.network import OnnxModel, open_keras_model

PICTURES: Final = 1024
"""Training pictures to calibrate with; four times as many gave no better result."""
SEED: Final = 0
"""For the choice of those pictures."""
METRICS: Final = {"top-1": "top1", "macro-F1": "macro_f1", "ECE": "ece"}


def export_command(args: argparse.Namespace) -> None:
    """Run `export`. Raises UserError for a model or data that can't be used."""
    if args.labels is not None:
        export_without_card(args)
        return
    if args.range is not None or args.bgr:
        raise UserError("--range and --bgr: for a model of your own, which needs --labels")
    card = read_all_keys(args.model)
    if args.int8 and args.data is None:
        raise UserError("--int8: needs FER2013, to calibrate with its training pictures; give --data")
    if not args.int8 and (args.data or args.votes):
        raise UserError("--data and --votes: only used with --int8; leave them out")
    dataset = read_dataset(args.data, args.votes) if args.int8 else None
    load_keras()
    from trainer.export.graph import checked_onnx, write_onnx

    made = checked_onnx(open_keras_model(args.model), args.model)
    more: dict[str, Any] = {}
    if dataset is not None:
        made, more = quantise(made, dataset)
    entry = {
        **write_onnx(made, args.model, "float32" if dataset is None else "int8"),
        "command": made_by(args),
        "versions": {name: version(name) for name in ("onnx", "onnxruntime")},
        **more,
    }
    write_json(card_path(args.model), card | {"onnx": entry})
    print_report(entry, args.model)


def export_without_card(args: argparse.Namespace) -> None:
    """Export a Keras model of one's own. Raises UserError if it has the trainer's card, or can't be used."""
    if args.int8 or args.data or args.votes:
        raise UserError("--labels: for a model of your own, which is written in float32 without data")
    card = card_path(args.model)
    if card.exists() and b'"made_from"' not in card.read_bytes():
        raise UserError(
            f"{card}: is a card that no export with --labels has written; leave --labels out or move it"
        )
    load_keras()
    from trainer.export.own_model import export_own

    export_own(args)


def quantise(made: onnx.ModelProto, dataset: Dataset) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return `made` in int8, and for the card how it was calibrated and what that cost."""
    from trainer.export import int8

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
    from trainer.scoring.metrics import label_sets, score, with_labels
    from trainer.scoring.network import predict

    faces = dataset.parts["validation"]
    consensus = None if dataset.votes is None else majority(dataset.votes["validation"])
    if consensus is not None and not (consensus >= 0).any():
        consensus = None
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


def made_by(args: argparse.Namespace) -> str:
    """Return the command line that writes this file again."""
    data = [*option("int8", True), *option("data", args.data)] if args.int8 else []
    return command_line("export", str(args.model), *data, *option("votes", args.votes))


def print_report(entry: dict[str, Any], model: Path) -> None:
    """Print what was written and, for int8, what it cost."""
    for label_set, found in entry.get("against_float32", {}).items():
        if isinstance(found, dict):
            print(f"{label_set}: {found['agreement']:.2%} of the labels are those of float32")
            for name, key in METRICS.items():
                row = found[key]
                print(f"  {name:<9} {row['int8']:.4f}, float32 {row['float32']:.4f}")
    path = model.with_suffix(".onnx")
    print(f"wrote {path}, {entry['precision']}, and its entry in {card_path(model)}")
