"""The command `evaluate`: the figures of a model on a part of the data."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.errors import UserError
from trainer.card import read_card
from trainer.data import Faces, load_for_scoring
from trainer.files import make_folder, write_json
from trainer.quiet import load_keras


def evaluate_command(chosen: argparse.Namespace) -> None:
    """Run `evaluate` as `chosen`. Raises UserError for a model or data that can't be used."""
    read_card(chosen.model)
    wanted = None if chosen.pictures is None else read_names(chosen.pictures)
    faces = load_for_scoring(chosen.data, chosen.split, wanted)
    for folder in (chosen.plots, chosen.json and chosen.json.parent):
        if folder is not None:
            make_folder(folder)
    scores = score(load_model(chosen.model), faces)
    show(scores, f"{chosen.model}, {chosen.split} part of {chosen.data}")
    if chosen.json is not None:
        write_json(chosen.json, scores)
    if chosen.plots is not None:
        draw(scores, chosen.split, chosen.plots)


def read_names(path: Path) -> list[str]:
    """Names of pictures, one a line; empty lines don't count. Raises UserError if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); expected names of pictures, one a line"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path}: expected names of pictures, one a line, found none")
    return names


def load_model(path: Path) -> Any:
    """The network in the file `path`. Raises UserError if it is none."""
    load_keras()
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise UserError(
            f"{path}: expected a Keras model, found another file ({why}); train or fetch it anew"
        ) from error


def score(model: Any, faces: Faces) -> dict[str, Any]:
    """The figures of `model` on `faces`, keyed by the set of labels."""
    # scikit-learn takes a second to load, which a mistyped path should not cost.
    from trainer.metrics import LABEL_SET, figures
    from trainer.predict import probabilities

    return {LABEL_SET: figures(faces.labels, probabilities(model, faces.pixels)[LABEL_SET])}


def show(scores: Mapping[str, Any], title: str) -> None:
    """Print the figures as a table for each set of labels."""
    console = Console(highlight=False)
    for label_set, figures in scores.items():
        console.print(
            f"{title}, by the labels {label_set}: top-1 {figures['top1']:.2%}, "
            f"macro-F1 {figures['macro_f1']:.4f}, {figures['pictures']:,} pictures",
            soft_wrap=True,
        )
        table = Table("emotion")
        for column in ("precision", "recall", "F1", "pictures"):
            table.add_column(column, justify="right")
        for emotion, row in figures["per_class"].items():
            fractions = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
            table.add_row(emotion, *fractions, str(row["pictures"]))
        console.print(table)


def draw(scores: Mapping[str, Any], split: str, folder: Path) -> None:
    """Write the confusion matrix of each set of labels into `folder`."""
    from trainer.plots import plot_confusion

    for label_set, figures in scores.items():
        # The first set has the plain name; others will stand beside it.
        name = "confusion.png" if label_set == "fer2013" else f"confusion-{label_set}.png"
        plot_confusion(figures, confusion_title(label_set, split, figures), folder / name)


def confusion_title(label_set: str, split: str, figures: Mapping[str, Any]) -> str:
    """What stands over a confusion matrix."""
    return f"{label_set}, {split}: top-1 {figures['top1']:.1%}, macro-F1 {figures['macro_f1']:.3f}"
