"""The commands `fit` and `distill`: check settings and data, train, write the artifacts."""

import argparse
import importlib.util
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from pipeline.common.errors import UserError
from pipeline.common.files import make_folder, sha256
from pipeline.common.model_card import read_all_keys
from pipeline.common.progress import bar
from trainer.checkpoint import STATE, Progress
from trainer.dataset import TRAINING_PARTS, Dataset, folds, missing_emotions, read_dataset
from trainer.model_file import load_keras
from trainer.pictures import reading_of
from trainer.settings import (
    BACKENDS,
    MODELS,
    Fitting,
    Settings,
    change,
    face_size,
    parse_change,
    read_settings,
)
from trainer.training_data import make_training_data, predict_teachers

OPTION_KEYS: Final = {
    "epochs": "fitting.epochs",
    "batch": "fitting.batch",
    "seed": "seed",
    "backend": "backend",
    "precision": "precision",
    "outputs": "network.outputs",
    "teacher_share": "fitting.teacher_share",
    "deterministic": "deterministic",
}
"""The key of the settings that each option changes."""

FEWEST_STEPS: Final = 10
"""Steps of an epoch below which a smaller batch is suggested."""
SMALLEST_BATCH: Final = 8
"""The smallest that is suggested: batch normalisation needs some faces."""
TEACHER_SHARE: Final = 0.5
"""Default of `distill`, where the settings have none."""


def run(args: argparse.Namespace) -> None:
    """Run `fit` or `distill`. Raises UserError for bad settings or data, before anything is trained."""
    settings = choose_settings(args)
    ancestors = read_ancestors(args, settings)
    settings = msgspec.structs.replace(
        settings,
        start="".join(str(one["sha256"]) for one in ancestors if one["role"] == "start"),
        teachers=tuple(str(one["sha256"]) for one in ancestors if one["role"] == "teacher"),
    )
    single = args.seeds is None and args.folds is None
    if not args.resume and any(args.out.glob(STATE if single else f"*/{STATE}")):
        raise UserError(
            f"{args.out}: has a checkpoint already; add --resume to continue, or choose another --out"
        )
    choose_backend(settings.backend, settings.deterministic)
    dataset = replace(read_dataset(args.data, args.votes, reading_of(args)), ancestors=tuple(ancestors))
    print_parts(dataset)
    make_folder(args.out)
    load_keras()
    if args.teachers:
        pixels = dataset.parts["train"].pixels
        teacher_probs = predict_teachers(args.teachers, settings.network.outputs, pixels)
        dataset = replace(dataset, teacher_probs=teacher_probs)
    if single:
        fit_one(settings, dataset, args.out, args)
    else:
        fit_several(settings, dataset, args)


def choose_backend(name: str, deterministic: bool = False) -> None:
    """Make Keras use the backend `name`, before it is imported. Raises UserError if that is not installed."""
    if importlib.util.find_spec(name) is None:
        raise UserError(
            f"backend {name}: not installed; pip install -r {BACKENDS[name]}, or choose another --backend"
        )
    os.environ["KERAS_BACKEND"] = name
    if deterministic:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch requires it on a GPU
    if deterministic and name == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def print_parts(dataset: Dataset) -> None:
    """Print the number of faces by part, and the emotions of which there are none."""
    filled = {part: len(faces) for part, faces in dataset.parts.items() if len(faces)}
    print(", ".join(f"{count:,} faces for {part}" for part, count in filled.items()))
    for part in TRAINING_PARTS:
        if missing := missing_emotions(dataset.parts[part]):
            then = "the network will not learn them" if part == "train" else "they are not scored"
            print(f"no pictures of {', '.join(missing)} for {part}: {then}")


def choose_settings(args: argparse.Namespace) -> Settings:
    """Return the settings of the network or file in `args`, as the options change them. Raises UserError."""
    settings = read_settings(args.settings or MODELS / f"{args.model}.toml")
    changes = dict(map(parse_change, args.set or []))
    given = {key: getattr(args, name, None) for name, key in OPTION_KEYS.items()}
    changes |= {key: value for key, value in given.items() if value is not None}
    if args.teachers and not settings.fitting.teacher_share:
        changes.setdefault("fitting.teacher_share", TEACHER_SHARE)
    settings = change(settings, changes)
    if settings.teachers or settings.start:
        raise UserError("teachers and start: expected none in settings; give them by --teachers and --start")
    share = settings.fitting.teacher_share
    if bool(args.teachers) != (share > 0):
        expected = "more than 0" if args.teachers else "0 without teachers (distill --teachers)"
        raise UserError(f"fitting.teacher_share: expected {expected}, found {share}")
    if "consensus" in settings.network.outputs and args.votes is None:
        if args.outputs is not None or len(settings.network.outputs) == 1:
            raise UserError("--outputs consensus: needs people's votes to train on; give --votes")
        settings = change(settings, {"network.outputs": ("fer2013",)})
        print("no --votes: the output consensus is left out")
    return settings


def read_ancestors(args: argparse.Namespace, settings: Settings) -> list[dict[str, Any]]:
    """Return for the card the models that provide initial weights or teach, and how each was made.

    Raises UserError for a model that can't be used.
    """
    if args.folds is not None and (args.teachers or args.start):
        raise UserError(
            "--folds: expected new weights and no teachers, since those were trained on the pictures held "
            "out, found --teachers or --start; leave one out"
        )
    paths = [] if args.start is None else [("start", args.start)]
    paths += [("teacher", path) for path in args.teachers]
    ancestors, outputs = [], settings.network.outputs
    for role, path in paths:
        card = read_all_keys(path)
        missing = [name for name in outputs if name not in card["outputs"]]
        if role == "teacher" and missing:
            raise UserError(
                f"{path}: expected a teacher with the outputs {', '.join(outputs)}, found none of "
                f"{', '.join(missing)}; choose others, or fewer --outputs"
            )
        made = {key: card.get(key) for key in ("command", "settings", "versions", "data", "ancestors")}
        ancestors.append({"role": role, "sha256": sha256(path), **made})
    return ancestors


def fit_one(settings: Settings, dataset: Dataset, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train once, with a progress bar, and write the artifacts into `out`. Returns the card."""
    from trainer import train
    from trainer.artifacts import write_artifacts, write_history

    data = make_training_data(settings, dataset)
    epochs = settings.fitting.epochs
    print_small_batch(len(data.train), settings.fitting.batch)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with bar(console, "{task.completed:.0f}/{task.total:.0f} steps") as drawn:
        task = drawn.add_task(f"epoch 1/{epochs}", total=1)

        def on_step(done: int, steps: int) -> None:
            drawn.update(task, completed=done, total=steps)

        def on_epoch(progress: Progress) -> None:
            console.print(epoch_line(progress, settings.fitting))
            write_history(progress.history, out / "history.csv")
            drawn.reset(task, description=f"epoch {min(progress.epochs_done + 1, epochs)}/{epochs}")

        try:
            progress = train.fit(settings, data, out, args.resume, on_step, on_epoch, args.start)
        except KeyboardInterrupt:
            print("stopped; add --resume to the command to continue after the last complete epoch")
            raise
    card = write_artifacts(out, settings, progress, data, dataset, args.command_line)
    for name, scores in card["figures"].items():
        print(f"{name}: validation top-1 {scores['top1']:.4f}, epoch {progress.kept.epoch}")
    print(f"wrote emotion.keras, emotion.onnx, their card emotion.json, history.csv and plots to {out}")
    return card


def print_small_batch(faces: int, batch: int) -> None:
    """Suggest a smaller batch where an epoch has so few steps that little is learned in it."""
    smaller = max(SMALLEST_BATCH, 2 ** int(math.log2(max(1, faces // FEWEST_STEPS))))
    steps = math.ceil(faces / batch)
    if steps < FEWEST_STEPS and smaller < batch:
        print(
            f"{faces:,} faces in batches of {batch:,} are {steps} step{'s' * (steps > 1)} an epoch; "
            f"with --batch {smaller} they are {math.ceil(faces / smaller)}"
        )


def fit_several(settings: Settings, dataset: Dataset, args: argparse.Namespace) -> None:
    """Train once a seed or fold, each in a folder of its own, and write summary.json."""
    from trainer.artifacts import write_seed_summary

    # A generator, since each fold is a copy of the faces.
    if args.folds is not None:
        runs = ((f"fold-{index}", settings, part) for index, part in enumerate(folds(dataset, args.folds)))
    else:
        seeds = range(settings.seed, settings.seed + args.seeds)
        runs = ((f"seed-{seed}", msgspec.structs.replace(settings, seed=seed), dataset) for seed in seeds)
    cards: dict[str, dict[str, Any]] = {}
    for name, one, part in runs:
        print(f"{name}, {len(cards) + 1} of {args.folds or args.seeds}:")
        make_folder(args.out / name)
        cards[name] = fit_one(one, part, args.out / name, args)
    write_seed_summary(cards, args.out / "summary.json")


def epoch_line(progress: Progress, fitting: Fitting) -> str:
    """Return one line on the last epoch of `progress`, with the time left."""
    last, kept = progress.history[-1], progress.kept
    validated = [
        f"{name} {top1:.3f} (loss {loss:.3f})"
        for name, top1, loss in (
            ("fer2013", last.validation_top1, last.validation_loss),
            ("consensus", last.validation_consensus_top1, last.validation_consensus_loss),
        )
        if top1 is not None
    ]
    best = f"  (best in epoch {kept.epoch})" if fitting.keep == "best" else ""
    # In proportion to the pixels of a face in each epoch.
    pixels = [face_size(fitting, number) ** 2 for number in range(last.epoch, fitting.epochs + 1)]
    minutes_left = last.seconds / 60 * sum(pixels[1:]) / pixels[0]
    return (
        f"epoch {last.epoch}/{fitting.epochs}  loss {last.loss:.3f}  top-1 {last.top1:.3f}  |  "
        f"validation {'  '.join(validated)}{best}  {last.seconds:.1f} s, about {minutes_left:.0f} min left"
    )
