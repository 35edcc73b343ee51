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
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from pipeline.common.files import replacing, write_json
from pipeline.common.model_card import card_path, new_card
from trainer import checkpoint
from trainer.augment import as_in_video
from trainer.checkpoint import Epoch, Progress
from trainer.dataset import Dataset, missing_emotions
from trainer.metrics import fit_temperature, fitting_half, label_sets, predict_by_label_set, score
from trainer.model_file import load_keras_file, predict
from trainer.networks import for_training, for_use, multiply_adds
from trainer.onnx_graph import checked_onnx, write_onnx
from trainer.pictures import PREFIXES
from trainer.plots import draw, plot_curves
from trainer.settings import Settings
from trainer.training_data import TrainingData, log_priors, logit_offsets, not_learned

PURPOSES: Final = {
    "train": "fitting the weights",
    "validation": "choosing the settings, the temperatures (one half of it), the figures of this card",
    "test": "nothing",
}

SHARPNESS: Final = 2
"""Power to which targets are raised for a last layer, so that what most people see counts for more."""
PENALTY: Final = 1e-4
"""Factor of that layer's squared weights, for features with a standard deviation of 1."""
STEPS: Final = 500
"""The most that L-BFGS takes; some 200 are enough for the shipped network."""

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
    weights = refit_last_layer(settings, trained.get_weights(), data)
    made = write_model(path, settings, weights, data)
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

    Offsets and temperatures are computed from `data` as `settings` have it. Returns what the card
    says of the files, and their figures on validation. Raises UserError if something can't be written.
    """
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


def refit_last_layer(settings: Settings, weights: list[Any], data: TrainingData) -> list[Any]:
    """Return `weights` with a new last layer of consensus, if `adjustment.refit` asks for one.

    It is trained with plain training faces and their mirror images. The rest of the network stays as it is
    (Kang et al. 2020), so this costs two predictions of the training faces.
    """
    if not settings.adjustment.refit:
        return weights
    ones: dict[str, float] = dict.fromkeys(settings.network.outputs, 1.0)
    network = for_use(settings, weights, ones, {})
    layer = network.get_layer("consensus_logits")
    trunk = keras.Model(network.input, {"features": layer.input})
    pixels = data.train.pixels
    features = np.concatenate([predict(trunk, faces)["features"] for faces in (pixels, pixels[:, :, ::-1])])
    targets, rows = data.targets.probabilities["consensus"], data.targets.weights["consensus"]
    prior = settings.adjustment.refit * log_priors(data.targets)["consensus"]
    layer.set_weights(fit_layer(features, np.tile(targets, (2, 1)), np.tile(rows, 2), prior))
    return list(network.get_weights())


def fit_layer(
    features: NDArray[np.float32],
    targets: NDArray[np.float32],
    rows: NDArray[np.float32],
    prior: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel (width, 7) and bias (7,) of a layer of logits for `features` (n, width).

    The loss is the cross-entropy of the logits plus `prior` (7,) (balanced softmax, Ren et al. 2020) with
    `targets` (n, 7), whose rows have the weights `rows` (n,), and an L2 penalty; L-BFGS minimises it.
    """
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-3
    scaled = (features - mean) / scale
    sharp = targets.astype(np.float64) ** SHARPNESS
    sharp /= np.maximum(sharp.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    shares = (rows / rows.sum())[:, None]
    width, count = features.shape[1], targets.shape[1]

    def loss_and_gradient(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        kernel, bias = values[: width * count].reshape(width, count), values[width * count :]
        logs = log_softmax(scaled @ kernel + bias + prior, axis=1)
        error = (np.exp(logs) - sharp) * shares
        loss = -(sharp * logs * shares).sum() + PENALTY * (kernel**2).sum()
        gradient = scaled.T @ error + 2 * PENALTY * kernel
        return loss, np.concatenate([gradient.ravel(), error.sum(axis=0)])

    start = np.zeros(width * count + count)
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    kernel = found[: width * count].reshape(width, count) / scale[:, None]
    bias = found[width * count :] - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)


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
