"""The commands `fit` and `distill`: check the data, train with a progress bar, write the product."""

import argparse
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from pipeline.errors import UserError
from trainer.data.material import Material, folds, read_material
from trainer.files import make_folder
from trainer.fitting.backend import choose_backend
from trainer.fitting.history import Progress
from trainer.quiet import load_keras
from trainer.settings import MODELS, Settings, change, parse_change, read_settings

CHANGES = {
    "epochs": "fitting.epochs",
    "batch": "fitting.batch",
    "seed": "seed",
    "backend": "backend",
    "precision": "precision",
    "outputs": "network.outputs",
    "teacher_share": "fitting.teacher_share",
}
"""The key of the settings that each option changes."""


def fit_command(chosen: argparse.Namespace) -> None:
    """Run `fit` or `distill` as `chosen`. Raises UserError for bad data, before anything is trained."""
    console = Console(highlight=False, soft_wrap=True)
    settings = choose_settings(chosen, console)
    choose_backend(settings.backend, chosen.deterministic)
    material = read_material(chosen.data, chosen.votes)
    console.print(
        ", ".join(f"{len(faces):,} faces for {part}" for part, faces in material.parts.items() if len(faces))
    )
    make_folder(chosen.out)
    load_keras()
    teachers: list[Path] = getattr(chosen, "teachers", [])
    if chosen.start is not None:
        from trainer.card import read_card

        settings = msgspec.structs.replace(settings, start=str(read_card(chosen.start)["sha256"]))
    if teachers:
        from trainer.fitting.teachers import check_teachers

        settings = msgspec.structs.replace(
            settings, teachers=check_teachers(teachers, settings.network.outputs)
        )
    if chosen.seeds is None and chosen.folds is None:
        fit_one(settings, material, teachers, chosen.out, chosen, console)
    else:
        fit_several(settings, material, teachers, chosen, console)


def choose_settings(chosen: argparse.Namespace, console: Console) -> Settings:
    """The settings of the network or file that is `chosen`, as the options change them. Raises UserError."""
    settings = read_settings(chosen.settings or MODELS / f"{chosen.model}.toml")
    changes = {key: getattr(chosen, name, None) for name, key in CHANGES.items()}
    if (
        changes["network.outputs"] is None
        and chosen.votes is None
        and "consensus" in settings.network.outputs
    ):
        changes["network.outputs"] = ("fer2013",)
        console.print("no --votes: the output consensus is left out")
    changes |= dict(map(parse_change, chosen.set or []))
    settings = change(settings, {key: value for key, value in changes.items() if value is not None})
    if "consensus" in settings.network.outputs and chosen.votes is None:
        raise UserError("--outputs consensus: expected the people's votes to learn from; give --votes")
    return settings


def fit_one(
    settings: Settings,
    material: Material,
    teachers: list[Path],
    out: Path,
    chosen: argparse.Namespace,
    console: Console,
) -> dict[str, Any]:
    """One training, and its product in `out`. Returns the card."""
    from trainer.fitting import train
    from trainer.fitting.lesson import make_lesson
    from trainer.fitting.product import write_product
    from trainer.fitting.progress import Bar
    from trainer.fitting.teachers import ask_teachers
    from trainer.fitting.tensorboard import Log

    taught = ask_teachers(teachers, material.parts["train"].pixels) if teachers else None
    lesson = make_lesson(settings, material.parts, material.votes, taught)
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
    console.print(f"wrote emotion.keras, its card emotion.json, history.csv and plots to {out}")
    return card


def fit_several(
    settings: Settings, material: Material, teachers: list[Path], chosen: argparse.Namespace, console: Console
) -> None:
    """Several trainings, each in a folder of its own, and the spread of their figures in summary.json."""
    from trainer.fitting.spread import write_summary

    if chosen.folds is not None:
        runs = [(f"fold-{index}", settings, part) for index, part in enumerate(folds(material, chosen.folds))]
    else:
        seeds = range(settings.seed, settings.seed + chosen.seeds)
        runs = [(f"seed-{seed}", msgspec.structs.replace(settings, seed=seed), material) for seed in seeds]
    cards: dict[str, dict[str, Any]] = {}
    for name, one, part in runs:
        console.print(f"{name}, {len(cards) + 1} of {len(runs)}:")
        make_folder(chosen.out / name)
        cards[name] = fit_one(one, part, teachers, chosen.out / name, chosen, console)
    write_summary(cards, chosen.out / "summary.json", console)
