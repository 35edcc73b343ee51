"""The command `fit`: check the data, train with a progress bar, write the product."""

import argparse

from rich.console import Console

from trainer.data import load_for_training
from trainer.files import make_folder
from trainer.quiet import load_keras


def fit_command(chosen: argparse.Namespace) -> None:
    """Run `fit` as `chosen`. Raises UserError for bad data, before anything is trained."""
    console = Console(highlight=False, soft_wrap=True)
    parts = load_for_training(chosen.data)
    console.print(
        ", ".join(f"{len(faces):,} faces for {part}" for part, faces in parts.items() if len(faces))
    )
    make_folder(chosen.out)
    load_keras()
    from trainer import train
    from trainer.progress import Bar

    settings = train.Settings(chosen.model, chosen.epochs, chosen.batch, chosen.seed)
    with Bar(console, settings.epochs) as bar:
        try:
            progress = train.fit(settings, parts, chosen.out, chosen.resume, bar.step, bar.epoch)
        except KeyboardInterrupt:
            console.print("stopped: the same command with --resume goes on after the last complete epoch")
            raise
    from trainer.product import write_product

    write_product(chosen.out, progress, parts, chosen.data)
    best = progress.best
    console.print(f"best epoch {best.epoch}: validation top-1 {best.validation_top1:.4f}")
    console.print(f"wrote emotion.keras, its card emotion.json, history.csv and plots to {chosen.out}")
