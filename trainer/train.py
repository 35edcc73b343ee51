"""Training: epochs over the faces, each checked on validation and followed by a checkpoint."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from pipeline.errors import UserError
from trainer import augment, batchnorm, checkpoint
from trainer.data import Faces, digest
from trainer.files import clear_unfinished
from trainer.forms import Part
from trainer.history import Epoch, Progress
from trainer.model import MODELS
from trainer.predict import probabilities

OnStep = Callable[[int, int], None]
"""Called after each step with the steps done in this epoch and the steps of one."""
OnEpoch = Callable[[Progress], None]

LEARNING_RATE: Final = 0.001
"""Adam's default in Keras, which the tutorial trained with."""


@dataclass(frozen=True)
class Settings:
    """What may be chosen for a training."""

    model: str = "baseline"
    epochs: int = 50
    batch: int = 1024
    seed: int = 0


def all_settings(settings: Settings, parts: dict[Part, Faces]) -> dict[str, Any]:
    """Everything that the result depends on, for the checkpoint and the card; plain JSON."""
    return {
        **asdict(settings),
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE,
        "loss": "cross-entropy",
        "augmentation": augment.SETTINGS,
        "batch_normalisation": f"statistics of {batchnorm.FACES} plain training faces, after each epoch",
        "faces_sha256": digest(parts),
    }


def fit(
    settings: Settings, parts: dict[Part, Faces], out: Path, resume: bool, on_step: OnStep, on_epoch: OnEpoch
) -> Progress:
    """Train up to `settings.epochs`, with a checkpoint in `out` after each.

    With `resume` it goes on from the last complete epoch, if there is one. Calls `on_epoch` once more at the
    start for what was resumed. Raises UserError if `out` holds a checkpoint that doesn't fit.
    """
    progress, model = begin(settings, parts, out, resume)
    if progress.history:
        on_epoch(progress)
    while progress.epochs_done < settings.epochs:
        epoch = run_epoch(model, parts, settings, progress.epochs_done + 1, on_step)
        progress.history.append(epoch)
        checkpoint.save(out, progress, model)
        on_epoch(progress)
    return progress


def begin(settings: Settings, parts: dict[Part, Faces], out: Path, resume: bool) -> tuple[Progress, Any]:
    """Progress and compiled network to start with: new ones, or those of the checkpoint in `out`."""
    everything = all_settings(settings, parts)
    if not resume and (out / checkpoint.STATE).exists():
        raise UserError(f"{out}: holds a checkpoint already; add --resume to go on, or choose another --out")
    clear_unfinished(out)
    found = checkpoint.restore(out, everything) if resume else None
    if found:
        return found
    model = MODELS[settings.model](settings.seed)
    # XLA is left out on purpose: on two cores its convolutions take twice as long as oneDNN's.
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return Progress(everything), model


def run_epoch(
    model: Any, parts: dict[Part, Faces], settings: Settings, number: int, on_step: OnStep
) -> Epoch:
    """One pass over the training faces, then validation. `number` counts from 1."""
    started = time.monotonic()
    faces = parts["train"]
    # Order and augmentation follow from the seed and the epoch alone, so that a resumed run sees the same.
    rng = np.random.default_rng([settings.seed, number])
    order = rng.permutation(len(faces))
    starts = range(0, len(faces), settings.batch)
    seed_dropout(model, settings.seed, number)
    sums = np.zeros(2)
    for step, start in enumerate(starts, 1):
        chosen = order[start : start + settings.batch]
        pixels = augment.augment(faces.pixels[chosen], rng)
        sums += np.array(model.train_on_batch(pixels, faces.labels[chosen])) * len(chosen)
        on_step(step, len(starts))
    batchnorm.estimate_statistics(model, faces.pixels, settings.seed)
    loss, top1 = validate(model, parts["validation"])
    return Epoch(
        epoch=number,
        loss=float(sums[0] / len(faces)),
        top1=float(sums[1] / len(faces)),
        validation_loss=loss,
        validation_top1=top1,
        seconds=round(time.monotonic() - started, 1),
    )


def seed_dropout(model: Any, seed: int, number: int) -> None:
    """Set the random state of all layers of `model` from the seed and the epoch's `number`.

    Keras doesn't save that state with a network: without this a resumed run would drop other units.
    """
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            # The second number counts up by one a step; 65,536 apart, epochs don't overlap.
            variable.assign(np.array([seed % 2**32, number * 2**16], np.uint32))


def validate(model: Any, faces: Faces) -> tuple[float, float]:
    """Mean cross-entropy (nats) and top-1 (fraction of 1) of `model` on `faces`."""
    predicted = probabilities(model, faces.pixels)["fer2013"]
    right = predicted[np.arange(len(faces)), faces.labels]
    return float(-np.log(np.maximum(right, 1e-7)).mean()), float(
        (predicted.argmax(axis=1) == faces.labels).mean()
    )
