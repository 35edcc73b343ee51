"""The command `calibrate`: other offsets and temperatures for a complete model, without training."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.common.errors import UserError
from pipeline.common.files import sha256, write_json
from pipeline.common.model_card import card_path, read_all_keys
from trainer.dataset import load_for_scoring, read_dataset
from trainer.model_file import OnnxModel, load_keras, open_keras_model
from trainer.pictures import Reading, reading_of
from trainer.settings import APPLIED_AFTERWARDS, Settings, change, convert, parse_change, to_json
from trainer.training_data import make_training_data

KEPT_FIGURES: Final = (
    "output",
    "pictures",
    "top1",
    "macro_f1",
    "mean_recall",
    "ece",
    "neutral",
    "confidence",
)
"""Of the scores on other sets, for the card."""


def run(args: argparse.Namespace) -> None:
    """Run `calibrate`. Raises UserError for settings, a model or data that can't be used."""
    card = read_all_keys(args.model)
    settings, faces_sha256 = settings_of(card, args.model)
    changes = dict(map(parse_change, args.set or []))
    for key in changes:
        if not key.startswith(APPLIED_AFTERWARDS):
            raise UserError(f"--set {key}: expected a key of [adjustment] or [confidence], found another one")
    fitted_with = settings.adjustment.refit
    settings = change(settings, changes)
    if fitted_with and not settings.adjustment.refit:
        raise UserError(
            f"adjustment.refit: expected more than 0, since the last layer of {args.model} was fitted again, "
            "found 0; for the layer as it was trained, --resume its training with --set adjustment.refit=0"
        )
    reading = reading_of(args)
    dataset = read_dataset(args.data, args.votes, reading)
    data = make_training_data(settings, dataset)
    if data.sha256 != faces_sha256:
        raise UserError(
            f"{args.data}: expected the pictures and votes that {args.model} was trained with, found others; "
            "give those, or leave the model as it is"
        )
    load_keras()
    from trainer.artifacts import refit_last_layer, versions, write_model
    from trainer.networks import unmix_outputs

    model = open_keras_model(args.model)
    unmix_outputs(model, card["settings"])
    weights = model.get_weights()
    if settings.adjustment.refit != fitted_with:
        weights = refit_last_layer(settings, weights, data)
    made = write_model(args.model, settings, weights, data)
    calibrated = {"command": args.command_line, "versions": versions()}
    others = [score_other(path, args.model, settings.network.outputs, reading) for path in args.others]
    kept = {"settings": {**to_json(settings), "faces_sha256": faces_sha256}}
    write_json(card_path(args.model), card | made | kept | {"calibrated": calibrated, "others": others})
    for name, scores in made["figures"].items():
        named = ("top1", "macro_f1", "mean_recall", "ece_all")
        print(f"{name}: validation {', '.join(f'{key} {scores[key]:.4f}' for key in named)}")
    print(f"wrote {args.model}, its .onnx in float32 and its card")


def settings_of(card: dict[str, Any], model: Path) -> tuple[Settings, str]:
    """Return the settings in a card, and the digest of the faces of its training. Raises UserError."""
    values = dict(card.get("settings", {}))
    digest = values.pop("faces_sha256", None)
    if digest is None:
        raise UserError(
            f"{card_path(model)}: has no settings; use a model that `python -m trainer fit` wrote"
        )
    return convert(values, str(card_path(model))), digest


def score_other(path: Path, model: Path, outputs: Sequence[str], reading: Reading) -> dict[str, Any]:
    """Return for the card the scores of the file `model` on a set of which nothing was trained."""
    from trainer.metrics import predict_by_label_set, score

    part, faces = load_for_scoring(path, "validation", reading=reading)
    network = OnnxModel(model.with_suffix(".onnx").read_bytes())
    found = {}
    for output in outputs:
        (one,) = predict_by_label_set(network, faces, None, output).values()
        scores = score(one, faces.names, halved=False)
        found[output] = {key: scores[key] for key in KEPT_FIGURES}
    return {
        "name": path.resolve().name,
        "sha256": sha256(path) if path.is_file() else None,
        "part": part,
        "used_for": "choosing [adjustment] and [confidence], and the figures here; nothing was fitted to it",
        "figures": found,
    }
