"""What a complete training writes: model (for Keras and ONNX Runtime), card, history and plots."""

import csv
import platform
import statistics
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Final

import keras
import numpy as np

from pipeline.common.files import replacing, write_json
from pipeline.common.model_card import card_path, new_card
from trainer import checkpoint
from trainer.augment import as_in_video
from trainer.checkpoint import Epoch, Progress
from trainer.dataset import Dataset, missing_emotions
from trainer.last_layer import refit_last_layer
from trainer.metrics import fit_temperature, fitting_half, label_sets, predict_by_label_set, score
from trainer.model_file import load_keras_file, predict
from trainer.networks import for_training, for_use, multiply_adds
from trainer.onnx_graph import checked_onnx, write_onnx
from trainer.pictures import PREFIXES
from trainer.plots import draw, plot_curves
from trainer.settings import Settings
from trainer.training_data import TrainingData, logit_offsets, not_learned

PURPOSES: Final = {
    "train": "fitting the weights",
    "validation": "choosing the settings, the temperatures (one half of it), the figures of this card",
    "test": "nothing",
}

RESIZED: Final = "pictures of other sizes than 48x48: their middle square, in grey, resampled (bicubic)"

CHOSEN_BY: Final = {
    "best": "highest top-1 on validation (of several outputs the sum), which `figures` are of as well",
    "last": "being the last: no epoch was chosen by its figures",
}

LIMITS: Final = [
    "FER2013 is pictures that a search engine of 2013 found for words of emotions: posed, acted and stock "
    "faces of 48x48 grey pixels, cut out by a Haar cascade. Spontaneous faces, small, dark or turned-away "
    "ones, masks and other cameras are hardly in it.",
    "The label fer2013 came from the search word and a quick cleaning by hand; on PublicTest it "
    "agrees with the majority of ten people in 65.4 % of the pictures that have one. The label consensus is "
    "what ten strangers saw in a picture, not what the person felt.",
    "Who is shown was not recorded: age, sex, skin colour and origin are not balanced, and errors by group "
    "were not measured. Children, old people and people of other origins than those whom an English search "
    "finds are likely to be missing.",
    "Disgust has 1.5 % of FER2013's pictures, and fear is often taken for surprise or sadness: the figures "
    "by class say how often. Seven classes are not all that a face can say.",
    "Not for decisions about people: hiring, school, policing, insurance, health, lie detection or the like. "
    "In the European Union emotion recognition at work and in education is forbidden (AI Act, Article 5).",
]
"""Limits of use, for the card of every model of FER2013."""


def write_artifacts(
    out: Path, settings: Settings, progress: Progress, data: TrainingData, dataset: Dataset, command: str
) -> dict[str, Any]:
    """Write the kept epoch's network for Keras and ONNX Runtime, its card and plots into `out`.

    `command`, for the card, makes them again. Returns the card. Raises UserError if something can't be
    written.
    """
    trained = for_training(settings)
    checkpoint.read_weights(trained, checkpoint.weight_files(out, progress)["kept"])
    path = out / "emotion.keras"
    made = write_model(path, settings, trained.get_weights(), data)
    plot_curves(progress.history, progress.kept, out / "curves.png")
    draw(made["figures"], "validation", out)
    card = {
        **made,
        "name": settings.name,
        "not_learned": not_learned(data.targets),
        "data": describe(dataset),
        "settings": progress.settings,
        "seed": settings.seed,
        "command": command,
        "ancestors": list(dataset.ancestors),
        "versions": versions(),
        "chosen": {"epoch": progress.kept.epoch, "by": CHOSEN_BY[settings.fitting.keep]},
        "limits": LIMITS,
    }
    write_json(card_path(path), card)
    return card


def write_model(path: Path, settings: Settings, weights: list[Any], data: TrainingData) -> dict[str, Any]:
    """Write the network with `weights` to the Keras file `path`, and in float32 for ONNX Runtime beside it.

    Last layer, offsets and temperatures are computed from `data` as `settings` have it. Returns what the card
    says of the files, and their figures on validation. Raises UserError if something can't be written.
    """
    weights = refit_last_layer(settings, weights, data)
    offsets = logit_offsets(settings.adjustment, data.targets, settings.fitting.balance)
    temperatures = fit_temperatures(settings, weights, data, offsets)
    with replacing(path) as temporary:
        for_use(settings, weights, temperatures, offsets).save(temporary)
    model = load_keras_file(path)
    predictions = predict_by_label_set(model, data.validation, data.consensus)
    return {
        **new_card(path, settings.network.outputs),
        "onnx": write_onnx(checked_onnx(model, path), path, "float32"),
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "offsets": offsets,
        "temperatures": temperatures,
        "figures": {
            name: score(one, data.validation.names, halved=True) for name, one in predictions.items()
        },
    }


def fit_temperatures(
    settings: Settings, weights: list[Any], data: TrainingData, offsets: dict[str, list[float]]
) -> dict[str, float]:
    """Return the temperature of each output, fitted on half of validation; 1 where that has no labels."""
    temperatures: dict[str, float] = dict.fromkeys(settings.network.outputs, 1.0)
    pixels = data.validation.pixels
    if settings.confidence.degraded:
        pixels = as_in_video(pixels)
    predicted = predict(for_use(settings, weights, temperatures, offsets), pixels)
    half = fitting_half(data.validation.names)
    for name, labels in label_sets(data.validation, data.consensus).items():
        rows = half & (labels >= 0)
        if name in predicted and rows.any():
            logs = np.log(np.maximum(predicted[name][rows], np.finfo(np.float32).tiny))
            temperatures[name] = fit_temperature(logs, labels[rows], getattr(settings.confidence, name))
    return temperatures


def write_history(history: list[Epoch], path: Path) -> None:
    """Write one row an epoch as csv. Raises UserError if `path` can't be written."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the data for the card: names, sha256 (None for a folder), what each part was used for."""
    votes = dataset.votes_path and {"name": dataset.votes_path.name, "sha256": dataset.votes_sha256}
    return {
        "name": dataset.path.resolve().name,
        "sha256": dataset.sha256,
        "votes": votes,
        **({"labels": list(dataset.reading.labels)} if dataset.reading.labels else {}),
        **({"resized": RESIZED} if dataset.reading.resize else {}),
        "parts": {
            part: {
                "pictures": len(faces),
                "prefixes": sorted(
                    {PurePosixPath(name).name.split("_")[0] for name in faces.names} & {*PREFIXES}
                ),
                "used_for": PURPOSES[part],
                **({"missing": missing_emotions(faces)} if len(faces) and missing_emotions(faces) else {}),
            }
            for part, faces in dataset.parts.items()
        },
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which a result depends."""
    packages = ("keras", keras.backend.backend(), "onnx", "numpy", "scipy", "opencv-python")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def write_seed_summary(cards: dict[str, dict[str, Any]], path: Path) -> None:
    """Write and print mean and sample standard deviation of the scores in `cards`, by name of the run.

    Raises UserError if `path` can't be written.
    """
    summary: dict[str, Any] = {"runs": sorted(cards)}
    for label_set in next(iter(cards.values()))["figures"]:
        summary[label_set] = {}
        for key in ("top1", "macro_f1", "ece"):
            values = [card["figures"][label_set][key] for card in cards.values()]
            known = [value for value in values if value is not None]
            summary[label_set][key] = {
                "values": dict(zip(cards, values, strict=True)),
                "mean": statistics.fmean(known) if known else None,
                "deviation": statistics.stdev(known) if len(known) > 1 else 0.0,
            }
        top1 = summary[label_set]["top1"]
        print(f"{label_set}: top-1 {top1['mean']:.4f} ± {top1['deviation']:.4f} over {len(cards)} runs")
    write_json(path, summary)
