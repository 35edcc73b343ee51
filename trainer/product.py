"""What a complete training leaves: model, card, history and plots."""

import csv
import platform
import shlex
import shutil
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from trainer import checkpoint
from trainer.card import card_path, identity
from trainer.data import Faces
from trainer.drawing import draw
from trainer.files import replacing, sha256, write_json
from trainer.forms import PARTS, Part
from trainer.history import Epoch, Progress
from trainer.loading import load_model
from trainer.model import multiply_adds
from trainer.plots import plot_curves
from trainer.scoring import score


def write_product(out: Path, progress: Progress, parts: dict[Part, Faces], data: Path) -> None:
    """Write the best epoch's network, its card, history.csv and the plots into `out`. Raises UserError."""
    path = out / "emotion.keras"
    with replacing(path) as temporary:
        shutil.copyfile(checkpoint.best_file(out, progress), temporary)
    model = load_model(path)
    scores = score(model, parts["validation"])
    write_history(progress.history, out / "history.csv")
    plot_curves(progress.history, progress.best, out / "curves.png")
    draw(scores, "validation", out)
    card = {
        **identity(path),
        "name": progress.settings["model"],
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "data": describe(data, parts),
        "settings": progress.settings,
        "seed": progress.settings["seed"],
        "command": command(progress.settings, data, out),
        "versions": versions(),
        "chosen": {
            "epoch": progress.best.epoch,
            "by": "highest top-1 on the validation part, which `figures` are measured on as well",
        },
        "figures": scores,
    }
    write_json(card_path(path), card)


def write_history(history: list[Epoch], path: Path) -> None:
    """One row an epoch. Raises UserError if `path` can't be written."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)


def describe(data: Path, parts: dict[Part, Faces]) -> dict[str, Any]:
    """The data for the card: name, sha256 of the file (None for a folder), which part served for what."""
    purposes = {
        "train": "fitting the weights",
        "validation": "choosing the epoch, and the figures in this card",
        "test": "nothing",
    }
    return {
        "name": data.resolve().name,
        "sha256": sha256(data) if data.is_file() else None,
        "parts": {
            part: {"pictures": len(faces), "prefixes": prefixes(faces), "used_for": purposes[part]}
            for part, faces in parts.items()
        },
    }


def prefixes(faces: Faces) -> list[str]:
    """Which of FER2013's parts the pictures' names say that they are of; empty where they say nothing."""
    return sorted(PARTS.keys() & {name.rsplit("/", 1)[-1].split("_")[0] for name in faces.names})


def command(settings: dict[str, Any], data: Path, out: Path) -> str:
    """The command line that trains this model anew."""
    words = ["python", "-m", "trainer", "fit", "--data", str(data), "--out", str(out)]
    for key in ("model", "epochs", "batch", "seed"):
        words += [f"--{key}", str(settings[key])]
    return shlex.join(words)


def versions() -> dict[str, str]:
    """What the training ran on."""
    backend = keras.backend.backend()
    packages = ("keras", backend, "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
