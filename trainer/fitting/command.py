"""The commands `fit` and `distill`: check the data, train with a progress bar, write the product."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from pipeline.common.errors import UserError
from pipeline.common.files import make_folder
from trainer.card import ancestor, read_card
from trainer.data.dataset import Material, folds, read_material
from trainer.fitting.backend import choose_backend
from trainer.fitting.checkpoint import STATE, Progress
from trainer.fitting.training_data import Probabilities, check_teachers
from trainer.quiet import load_keras
from trainer.settings import MODELS, Settings, change, parse_change, read_settings

CHANGES: Final = {
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
"""Where neither the settings nor the command line say one."""


def fit_command(chosen: argparse.Namespace) -> None:
    """Run `fit` or `distill` as `chosen`. Raises UserError for bad data, before anything is trained."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    settings = choose_settings(chosen, console)
    # What is quick to check comes before what takes minutes.
    one = chosen.seeds is None and chosen.folds is None
    if not chosen.resume and any(chosen.out.glob(STATE if one else f"*/{STATE}")):
        raise UserError(
            f"{chosen.out}: holds a checkpoint already; add --resume to go on, or choose another --out"
        )
    choose_backend(settings.backend, settings.deterministic)
    material = replace(read_material(chosen.data, chosen.votes), ancestors=tuple(ancestors(chosen)))
    console.print(
        ", ".join(f"{len(faces):,} faces for {part}" for part, faces in material.parts.items() if len(faces))
    )
    make_folder(chosen.out)
    load_keras()
    from trainer.fitting.training_data import ask_teachers

    asked = None
    if chosen.teachers:
        asked = ask_teachers(chosen.teachers, settings.network.outputs, material.parts["train"].pixels)
    if one:
        fit_one(settings, material, asked, chosen.out, chosen, console)
    else:
        fit_several(settings, material, asked, chosen, console)


def choose_settings(chosen: argparse.Namespace, console: Console) -> Settings:
    """The settings of the network or file that is `chosen`, as the options change them. Raises UserError."""
    settings = read_settings(chosen.settings or MODELS / f"{chosen.model}.toml")
    changes = dict(map(parse_change, chosen.set or []))
    given = {key: getattr(chosen, name, None) for name, key in CHANGES.items()}
    changes |= {key: value for key, value in given.items() if value is not None}
    if chosen.teachers and not settings.fitting.teacher_share:
        changes.setdefault("fitting.teacher_share", TEACHER_SHARE)
    settings = change(settings, changes)
    if settings.teachers or settings.start:
        raise UserError("teachers and start: expected none in settings; give them by --teachers and --start")
    if "consensus" in settings.network.outputs and chosen.votes is None:
        if chosen.outputs is not None or len(settings.network.outputs) == 1:
            raise UserError("--outputs consensus: expected the people's votes to learn from; give --votes")
        settings = change(settings, {"network.outputs": ("fer2013",)})
        console.print("no --votes: the output consensus is left out")
    return with_models(settings, chosen)


def with_models(settings: Settings, chosen: argparse.Namespace) -> Settings:
    """`settings` with the models that the training begins with or is taught by. Raises UserError."""
    if chosen.folds is not None and (chosen.teachers or chosen.start):
        raise UserError(
            "--folds: expected new weights and no teachers, since those have seen the pictures held out, "
            "found --teachers or --start; leave one out"
        )
    if chosen.start is not None:
        settings = msgspec.structs.replace(settings, start=str(read_card(chosen.start)["sha256"]))
    share = settings.fitting.teacher_share
    if bool(chosen.teachers) != (share > 0):
        expected = "more than 0" if chosen.teachers else "0 without teachers (distill --teachers)"
        raise UserError(f"fitting.teacher_share: expected {expected}, found {share}")
    if not chosen.teachers:
        return settings
    return msgspec.structs.replace(
        settings, teachers=check_teachers(chosen.teachers, settings.network.outputs)
    )


def ancestors(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The models that the training begins with or is taught by, for its card. Raises UserError."""
    if chosen.start is not None:
        yield ancestor(chosen.start, "start")
    for path in chosen.teachers:
        yield ancestor(path, "teacher")


def fit_one(
    settings: Settings,
    material: Material,
    asked: Probabilities | None,
    out: Path,
    chosen: argparse.Namespace,
    console: Console,
) -> dict[str, Any]:
    """One training, and its product in `out`; `asked` is what the teachers say. Returns the card."""
    from trainer.fitting import train
    from trainer.fitting.artifacts import write_product
    from trainer.fitting.progress import Bar, Log
    from trainer.fitting.training_data import make_lesson

    lesson = make_lesson(settings, material.parts, material.votes, asked)
    log = Log(out)
    with Bar(console, settings.fitting) as bar:

        def on_epoch(progress: Progress) -> None:
            bar.epoch(progress)
            log.epoch(progress)

        try:
            progress = train.fit(settings, lesson, out, chosen.resume, bar.step, on_epoch, chosen.start)
        except KeyboardInterrupt:
            console.print("stopped: the same command with --resume goes on after the last complete epoch")
            raise
        finally:
            log.close()
    card = write_product(out, settings, progress, lesson, material, chosen)
    for name, figures in card["figures"].items():
        console.print(f"{name}: validation top-1 {figures['top1']:.4f}, epoch {progress.kept.epoch}")
    console.print(
        f"wrote emotion.keras, emotion.onnx, their card emotion.json, history.csv and plots to {out}"
    )
    return card


def fit_several(
    settings: Settings,
    material: Material,
    asked: Probabilities | None,
    chosen: argparse.Namespace,
    console: Console,
) -> None:
    """Several trainings, each in a folder of its own, and the spread of their figures in summary.json."""
    from trainer.fitting.artifacts import write_summary

    # One at a time: a fold is a copy of the faces.
    if chosen.folds is not None:
        runs = ((f"fold-{index}", settings, part) for index, part in enumerate(folds(material, chosen.folds)))
    else:
        seeds = range(settings.seed, settings.seed + chosen.seeds)
        runs = ((f"seed-{seed}", msgspec.structs.replace(settings, seed=seed), material) for seed in seeds)
    cards: dict[str, dict[str, Any]] = {}
    for name, one, part in runs:
        console.print(f"{name}, {len(cards) + 1} of {chosen.folds or chosen.seeds}:")
        make_folder(chosen.out / name)
        cards[name] = fit_one(one, part, asked, chosen.out / name, chosen, console)
    write_summary(cards, chosen.out / "summary.json", console)
