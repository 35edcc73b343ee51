"""What a complete training leaves: model (for Keras and for ONNX Runtime), card, history and plots."""

import argparse
import csv
import platform
import shlex
import statistics
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from rich.console import Console

from pipeline.common.files import replacing, write_json
from trainer.card import card_path, identity
from trainer.data.dataset import Material
from trainer.data.faces import Faces
from trainer.data.pictures import PARTS
from trainer.export.command import checked_onnx, write_onnx
from trainer.fitting import checkpoint
from trainer.fitting.checkpoint import Epoch, Progress
from trainer.fitting.training_data import Lesson, Offsets, find_offsets
from trainer.limits import LIMITS
from trainer.models.build import for_training, for_use, multiply_adds
from trainer.scoring.calibration import fit_temperature, halves
from trainer.scoring.metrics import score, truths
from trainer.scoring.network import load_model, predictions
from trainer.scoring.plots import draw, plot_curves
from trainer.settings import Settings

FIGURES: Final = ("top1", "macro_f1", "ece")


def write_summary(cards: dict[str, dict[str, Any]], path: Path, console: Console) -> None:
    """Write and print mean and standard deviation of the figures in `cards`, by name of the run.

    The standard deviation is that of the sample, 0 for a single run. Raises UserError if `path` can't be
    written.
    """
    summary: dict[str, Any] = {"runs": sorted(cards)}
    for label_set in next(iter(cards.values()))["figures"]:
        summary[label_set] = {}
        for key in FIGURES:
            values = [card["figures"][label_set][key] for card in cards.values()]
            known = [value for value in values if value is not None]
            summary[label_set][key] = {
                "values": dict(zip(cards, values, strict=True)),
                "mean": statistics.fmean(known) if known else None,
                "deviation": statistics.stdev(known) if len(known) > 1 else 0.0,
            }
        top1 = summary[label_set]["top1"]
        console.print(
            f"{label_set}: top-1 {top1['mean']:.4f} ± {top1['deviation']:.4f} over {len(cards)} runs"
        )
    write_json(path, summary)


# ---- What a complete training leaves: model (for Keras and for ONNX Runtime), card, history and plots.


OPTIONS: Final = (
    *("model", "settings", "data", "votes", "teachers", "teacher_share", "outputs"),
    *("epochs", "batch", "backend", "precision", "start", "folds"),
)
"""What a result depends on, of the command line; in this order in the card's command."""


def write_product(
    out: Path,
    settings: Settings,
    progress: Progress,
    lesson: Lesson,
    material: Material,
    chosen: argparse.Namespace,
) -> dict[str, Any]:
    """Write the kept epoch's network, for Keras and in ONNX, its card, history.csv and the plots into `out`.

    Returns the card.

    Raises UserError if something can't be written.
    """
    trained = for_training(settings)
    checkpoint.read_weights(trained, checkpoint.kept_file(out, progress))
    offsets = find_offsets(settings.adjustment, lesson.targets)
    temperatures = find_temperatures(settings, trained, lesson, offsets)
    path = out / "emotion.keras"
    with replacing(path) as temporary:
        for_use(settings, trained.get_weights(), temperatures, offsets).save(temporary)
    model = load_model(path)
    scores = score(model, lesson.validation, lesson.consensus if (lesson.consensus >= 0).any() else None)
    write_history(progress.history, out / "history.csv")
    plot_curves(progress.history, progress.kept, out / "curves.png")
    draw(scores, "validation", out)
    card = {
        **identity(path, settings.network.outputs),
        "onnx": write_onnx(checked_onnx(model, path), path, "float32"),
        "name": settings.name,
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "offsets": offsets,
        "temperatures": temperatures,
        "data": describe(material),
        "settings": progress.settings,
        "seed": settings.seed,
        "command": command(chosen, settings.seed, out),
        "ancestors": list(material.ancestors),
        "versions": versions(),
        "chosen": {
            "epoch": progress.kept.epoch,
            "by": "highest top-1 on validation (of several outputs the sum), which `figures` are of as well"
            if settings.fitting.keep == "best"
            else "being the last: no epoch was chosen by its figures",
        },
        "figures": scores,
        "limits": LIMITS,
    }
    write_json(card_path(path), card)
    return card


def find_temperatures(settings: Settings, trained: Any, lesson: Lesson, offsets: Offsets) -> dict[str, float]:
    """The temperature of each output, fitted on the fitting half of validation; 1 where that has no truth."""
    ones: dict[str, float] = dict.fromkeys(settings.network.outputs, 1.0)
    plain = for_use(settings, trained.get_weights(), ones, offsets)
    found = predictions(plain, lesson.validation.pixels)
    fitting, _ = halves(lesson.validation.names)
    temperatures = {}
    for name, truth in truths(lesson.validation, lesson.consensus).items():
        rows = fitting & (truth >= 0)
        if name in found:
            logs = np.log(np.maximum(found[name][rows], np.finfo(np.float32).tiny))
            temperatures[name] = fit_temperature(logs, truth[rows]) if rows.any() else 1.0
    return temperatures


def write_history(history: list[Epoch], path: Path) -> None:
    """One row an epoch. Raises UserError if `path` can't be written."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)


def describe(material: Material) -> dict[str, Any]:
    """The data for the card: names, sha256 of the files (None for a folder), which part served for what."""
    purposes = {
        "train": "fitting the weights",
        "validation": "choosing the settings, the temperatures (one half of it), the figures of this card",
        "test": "nothing",
    }
    return {
        "name": material.path.resolve().name,
        "sha256": material.sha256,
        "votes": None
        if material.votes_path is None
        else {"name": material.votes_path.name, "sha256": material.votes_sha256},
        "parts": {
            part: {"pictures": len(faces), "prefixes": prefixes(faces), "used_for": purposes[part]}
            for part, faces in material.parts.items()
        },
    }


def prefixes(faces: Faces) -> list[str]:
    """Which of FER2013's parts the pictures' names say that they are of; empty where they say nothing."""
    return sorted(PARTS.keys() & {name.rsplit("/", 1)[-1].split("_")[0] for name in faces.names})


def command(chosen: argparse.Namespace, seed: int, out: Path) -> str:
    """The command line that trains this model anew; for one of several folds, all of them."""
    words = ["python", "-m", "trainer", chosen.command]
    for name in OPTIONS:
        value = getattr(chosen, name, None)
        if value not in (None, []) and not (name == "model" and chosen.settings is not None):
            values = value if isinstance(value, list | tuple) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    for change in chosen.set or []:
        words += ["--set", change]
    if chosen.deterministic:
        words.append("--deterministic")
    return shlex.join([*words, "--seed", str(seed), "--out", str(chosen.out if chosen.folds else out)])


def versions() -> dict[str, str]:
    """What the training ran on."""
    backend = keras.backend.backend()
    packages = ("keras", backend, "onnx", "numpy", "scipy", "opencv-python")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
