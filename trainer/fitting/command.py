"""The commands `fit` and `distill`: check settings and data, train, write the artifacts."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from pipeline.common.errors import UserError
from pipeline.common.files import make_folder
from pipeline.common.model_card import read_all_keys
from trainer.backend import choose_backend, load_keras
from trainer.data.dataset import Dataset, folds, read_dataset
from trainer.fitting.checkpoint import STATE, Progress
from trainer.fitting.training_data import Probabilities, make_training_data, predict_teachers
from trainer.settings import MODELS, Settings, change, parse_change, read_settings

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

TEACHER_SHARE: Final = 0.5
"""Default of `distill`, where the settings have none."""


def fit_command(args: argparse.Namespace) -> None:
    """Run `fit` or `distill`. Raises UserError for bad settings or data, before anything is trained."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    settings = choose_settings(args, console)
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
    dataset = replace(read_dataset(args.data, args.votes), ancestors=tuple(ancestors))
    console.print(
        ", ".join(f"{len(faces):,} faces for {part}" for part, faces in dataset.parts.items() if len(faces))
    )
    make_folder(args.out)
    load_keras()
    teacher_probs = None
    if args.teachers:
        pixels = dataset.parts["train"].pixels
        teacher_probs = predict_teachers(args.teachers, settings.network.outputs, pixels)
    if single:
        fit_one(settings, dataset, teacher_probs, args.out, args, console)
    else:
        fit_several(settings, dataset, teacher_probs, args, console)


def choose_settings(args: argparse.Namespace, console: Console) -> Settings:
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
        console.print("no --votes: the output consensus is left out")
    return settings


def read_ancestors(args: argparse.Namespace, settings: Settings) -> list[dict[str, Any]]:
    """Return what the card records of the models that provide initial weights or teach.

    Raises UserError for a model that can't be used.
    """
    if args.folds is not None and (args.teachers or args.start):
        raise UserError(
            "--folds: expected new weights and no teachers, since those were trained on the pictures held "
            "out, found --teachers or --start; leave one out"
        )
    start = [] if args.start is None else [("start", args.start)]
    return [
        read_ancestor(path, role, settings)
        for role, path in (*start, *(("teacher", path) for path in args.teachers))
    ]


def read_ancestor(path: Path, role: str, settings: Settings) -> dict[str, Any]:
    """Return `role` and those keys of a model's card that tell how it was made; None for missing ones."""
    card, outputs = read_all_keys(path), settings.network.outputs
    missing = [name for name in outputs if name not in card["outputs"]]
    if role == "teacher" and missing:
        raise UserError(
            f"{path}: expected a teacher with the outputs {', '.join(outputs)}, found none of "
            f"{', '.join(missing)}; choose others, or fewer --outputs"
        )
    keys = ("sha256", "command", "settings", "versions", "data", "ancestors")
    return {"role": role, **{key: card.get(key) for key in keys}}


def fit_one(
    settings: Settings,
    dataset: Dataset,
    teacher_probs: Probabilities | None,
    out: Path,
    args: argparse.Namespace,
    console: Console,
) -> dict[str, Any]:
    """Train once and write the artifacts into `out`. Returns the card."""
    from trainer.fitting import train
    from trainer.fitting.artifacts import write_artifacts
    from trainer.fitting.progress import ProgressBar, TensorBoardLog

    data = make_training_data(settings, dataset.parts, dataset.votes, teacher_probs)
    log = TensorBoardLog(out)
    with ProgressBar(console, settings.fitting) as bar:

        def on_epoch(progress: Progress) -> None:
            bar.epoch(progress)
            log.epoch(progress)

        try:
            progress = train.fit(settings, data, out, args.resume, bar.step, on_epoch, args.start)
        except KeyboardInterrupt:
            console.print("stopped; add --resume to the command to continue after the last complete epoch")
            raise
        finally:
            log.close()
    card = write_artifacts(out, settings, progress, data, dataset, args)
    for name, scores in card["figures"].items():
        console.print(f"{name}: validation top-1 {scores['top1']:.4f}, epoch {progress.kept.epoch}")
    console.print(
        f"wrote emotion.keras, emotion.onnx, their card emotion.json, history.csv and plots to {out}"
    )
    return card


def fit_several(
    settings: Settings,
    dataset: Dataset,
    teacher_probs: Probabilities | None,
    args: argparse.Namespace,
    console: Console,
) -> None:
    """Train once a seed or fold, each in a folder of its own, and write summary.json."""
    from trainer.fitting.artifacts import write_seed_summary

    # A generator, since each fold is a copy of the faces.
    if args.folds is not None:
        runs = ((f"fold-{index}", settings, part) for index, part in enumerate(folds(dataset, args.folds)))
    else:
        seeds = range(settings.seed, settings.seed + args.seeds)
        runs = ((f"seed-{seed}", msgspec.structs.replace(settings, seed=seed), dataset) for seed in seeds)
    cards: dict[str, dict[str, Any]] = {}
    for name, one, part in runs:
        console.print(f"{name}, {len(cards) + 1} of {args.folds or args.seeds}:")
        make_folder(args.out / name)
        cards[name] = fit_one(one, part, teacher_probs, args.out / name, args, console)
    write_seed_summary(cards, args.out / "summary.json", console)
