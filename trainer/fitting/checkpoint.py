"""What a training needs to go on where it stopped, on disk after every epoch.

The weights with the optimizer's state after the last complete epoch, the average of the weights where there
is one, the weights of the epoch that is kept, and `checkpoint.json`, which names the epoch. The JSON is
replaced last, so that a kill at any moment leaves a checkpoint that is complete, of this epoch or the one
before.
"""

import json
import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.common.errors import UserError, first_line
from pipeline.common.files import replacing, write_json
from trainer.settings import convert


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; accuracies are fractions of 1, losses mean cross-entropy in nats.

    `loss` and `top1` are those on the augmented training batches as they were trained on, the latter of the
    first output. The validation of an output that the network hasn't, or without votes, is None.
    """

    epoch: int
    loss: float
    top1: float
    validation_loss: float | None
    validation_top1: float | None
    validation_consensus_loss: float | None
    validation_consensus_top1: float | None
    seconds: float

    @property
    def score(self) -> float:
        """By which the best epoch is chosen: the sum of top-1 over the outputs."""
        return (self.validation_top1 or 0.0) + (self.validation_consensus_top1 or 0.0)


@dataclass
class Progress:
    """How far a training has come. `settings` is everything that its result depends on."""

    settings: dict[str, Any]
    history: list[Epoch] = field(default_factory=list)

    @property
    def epochs_done(self) -> int:
        """Complete epochs."""
        return len(self.history)

    @property
    def best(self) -> Epoch:
        """The epoch with the highest score on validation, the first of equals. There must be one."""
        return max(self.history, key=lambda epoch: (epoch.score, -epoch.epoch))

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights are kept, by the settings. There must be one."""
        return self.best if self.settings["fitting"]["keep"] == "best" else self.history[-1]


STATE: Final = "checkpoint.json"
BYTES: Final = 4
"""Of a number in a network or an optimizer."""
HEADER: Final = 4096
"""Bytes that HDF5 adds for an array, and more than that."""


def last_file(out: Path, progress: Progress) -> Path:
    """The weights that are trained, with the optimizer's state."""
    return out / f"last-{progress.epochs_done:04d}.weights.h5"


def average_file(out: Path, progress: Progress) -> Path:
    """The average of the weights."""
    return out / f"average-{progress.epochs_done:04d}.weights.h5"


def kept_file(out: Path, progress: Progress) -> Path:
    """The weights, averaged or not, of the epoch that is kept so far."""
    return out / f"kept-{progress.kept.epoch:04d}.weights.h5"


def save(out: Path, progress: Progress, model: Any, averaged: Any) -> None:
    """Write the checkpoint of the epoch that `model` has just completed, and remove the one before."""
    write_weights(model, last_file(out, progress))
    if averaged is not model:
        write_weights(averaged, average_file(out, progress))
    if progress.kept.epoch == progress.epochs_done:
        write_weights(averaged, kept_file(out, progress))
    write_json(out / STATE, asdict(progress))
    current = {file(out, progress) for file in (last_file, average_file, kept_file)}
    for name in ("last", "average", "kept"):
        for path in out.glob(f"{name}-*.weights.h5"):
            if path not in current:
                path.unlink(missing_ok=True)


def write_weights(model: Any, path: Path) -> None:
    """Write the weights of `model`, and its optimizer's state if it has one.

    Raises UserError if it can't be written.
    """
    # A disk that fills up under HDF5 takes the whole process down: asked before, since no error comes.
    optimizer = getattr(model, "optimizer", None)
    arrays = [*model.weights, *(optimizer.variables if optimizer else ())]
    needed = sum(math.prod(array.shape) * BYTES + HEADER for array in arrays)
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(
            f"{path}: expected {needed / 1e6:.1f} MB free on its disk, found {free / 1e6:.1f}; make room and "
            "go on with --resume"
        )
    with replacing(path) as temporary:
        model.save_weights(temporary)


def restore(out: Path, settings: dict[str, Any], model: Any, averaged: Any) -> Progress:
    """Read the checkpoint in `out` into `model`, with its optimizer, and `averaged`.

    Raises UserError if the checkpoint is of other settings or damaged.
    """
    progress = read_progress(out / STATE)
    check_settings(progress.settings, settings, out)
    if progress.epochs_done > settings["fitting"]["epochs"]:
        raise UserError(
            f"{out / STATE}: expected at most {settings['fitting']['epochs']} epochs done, "
            f"found {progress.epochs_done}; ask for more --epochs, or choose another --out"
        )
    progress.settings = settings
    if not kept_file(out, progress).exists():
        raise damaged(kept_file(out, progress), "no such file")
    read_weights(model, last_file(out, progress))
    if averaged is not model:
        read_weights(averaged, average_file(out, progress))
    return progress


def read_weights(model: Any, path: Path) -> None:
    """Read the weights in `path` into `model`. Raises UserError if they can't be, or don't fit."""
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise damaged(path, first_line(error)) from error


def read_progress(path: Path) -> Progress:
    """The JSON of a checkpoint. Raises UserError if it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        progress = Progress(dict(value["settings"]), [Epoch(**epoch) for epoch in value["history"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error)) from error
    if not progress.history:
        raise damaged(path, "no epochs in it")
    return progress


def check_settings(found: dict[str, Any], expected: dict[str, Any], out: Path) -> None:
    """Raise UserError naming the first setting in which the checkpoint differs.

    More epochs are no other setting where rate and size are constant: those done are the same. The adjustment
    is of the network that is complete.
    """
    one, two = flat(complete(found, out / STATE)), flat(expected)
    constant = expected["fitting"]["schedule"] == "constant" and len(expected["fitting"]["sizes"]) == 1
    free = {"fitting.epochs"} if constant else set()
    free |= {key for key in two if key.startswith("adjustment.")}
    for key in sorted({*one, *two} - free):
        if one.get(key) != two.get(key):
            raise UserError(
                f"{out / STATE}: expected a checkpoint with {key} {two.get(key)}, "
                f"found {one.get(key)}; give the same settings to resume, or another --out"
            )


def complete(found: dict[str, Any], where: Path) -> dict[str, Any]:
    """The settings `found`, with what was not there yet when they were written. Raises UserError."""
    digest = found.get("faces_sha256")
    chosen = {key: value for key, value in found.items() if key != "faces_sha256"}
    values: dict[str, Any] = msgspec.to_builtins(convert(chosen, str(where)))
    return {**values, "faces_sha256": digest}


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested tables as one, as in {"fitting.batch": 128}; tuples as JSON gives them back."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            values |= {f"{key}.{inner}": within for inner, within in flat(value).items()}
        else:
            values[key] = json.loads(json.dumps(value))
    return values


def damaged(path: Path, why: str) -> UserError:
    """The error for a checkpoint that can't be used."""
    return UserError(
        f"{path}: expected a whole checkpoint, found a damaged one ({why}); train anew in another --out"
    )
