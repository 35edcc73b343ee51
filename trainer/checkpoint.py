"""The state of a training on disk, written after every epoch, from which `--resume` continues.

It is the weights with the optimizer's state after the last complete epoch, the EMA of the weights where there
is one, the weights of the kept epoch, and `checkpoint.json`, which names the epoch. The JSON is replaced
last, so that a kill at any moment leaves a complete checkpoint, of this epoch or the previous one.
"""

import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.common.errors import UserError, first_line
from pipeline.common.files import replacing, write_json
from trainer.settings import APPLIED_AFTERWARDS, convert, to_json

STATE: Final = "checkpoint.json"
BYTES: Final = 4
"""Of a number in a network or an optimizer."""
HEADER: Final = 4096
"""Bytes that HDF5 adds for an array, rounded up."""


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch; accuracies are fractions of 1, losses mean cross-entropy in nats.

    `loss` and `top1` are those of the augmented training batches, `top1` of the first output. Validation
    values are None for an output that the network doesn't have, or without votes.
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
        """The sum of top-1 over the outputs, by which the best epoch is chosen."""
        return (self.validation_top1 or 0.0) + (self.validation_consensus_top1 or 0.0)


@dataclass
class Progress:
    """The epochs done so far. `settings` is everything that the result depends on."""

    settings: dict[str, Any]
    history: list[Epoch] = field(default_factory=list)

    @property
    def epochs_done(self) -> int:
        """Number of complete epochs."""
        return len(self.history)

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights are kept: by the settings the last, or the first of the best."""
        if self.settings["fitting"]["keep"] == "last":
            return self.history[-1]
        return max(self.history, key=lambda epoch: (epoch.score, -epoch.epoch))


def weight_files(out: Path, progress: Progress) -> dict[str, Path]:
    """Return the files of a checkpoint.

    "last": the weights in training and the optimizer's state. "ema": the averaged weights. "kept": the
    weights, averaged or not, of the kept epoch.
    """
    epochs = {"last": progress.epochs_done, "ema": progress.epochs_done, "kept": progress.kept.epoch}
    return {name: out / f"{name}-{epoch:04d}.weights.h5" for name, epoch in epochs.items()}


def save(out: Path, progress: Progress, model: Any, ema_model: Any) -> None:
    """Write the checkpoint of the epoch that `model` has just completed, and remove the previous one."""
    files = weight_files(out, progress)
    write_weights(model, files["last"])
    if ema_model is not model:
        write_weights(ema_model, files["ema"])
    if progress.kept.epoch == progress.epochs_done:
        write_weights(ema_model, files["kept"])
    write_json(out / STATE, asdict(progress))
    for name, current in files.items():
        for path in out.glob(f"{name}-*.weights.h5"):
            if path != current:
                path.unlink(missing_ok=True)


def write_weights(model: Any, path: Path) -> None:
    """Write the weights of `model` and its optimizer's state, if it has one. Raises UserError."""
    # HDF5 crashes the process when the disk is full, so the space is checked first.
    optimizer = getattr(model, "optimizer", None)
    arrays = [*model.weights, *(optimizer.variables if optimizer else ())]
    needed = sum(math.prod(array.shape) * BYTES + HEADER for array in arrays)
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(
            f"{path}: expected {needed / 1e6:.1f} MB free on its disk, found {free / 1e6:.1f}; free some "
            "space and continue with --resume"
        )
    with replacing(path) as temporary:
        model.save_weights(temporary)


def restore(out: Path, settings: dict[str, Any], model: Any, ema_model: Any) -> Progress:
    """Read the checkpoint in `out` into `model`, with its optimizer, and `ema_model`.

    Raises UserError if the checkpoint is of other settings or damaged.
    """
    path = out / STATE
    try:
        progress = msgspec.json.decode(path.read_bytes(), type=Progress)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise damaged(path, str(error)) from error
    if not progress.history:
        raise damaged(path, "no epochs in it")
    check_settings(progress.settings, settings, path)
    if progress.epochs_done > settings["fitting"]["epochs"]:
        raise UserError(
            f"{path}: expected at most {settings['fitting']['epochs']} epochs done, "
            f"found {progress.epochs_done}; increase --epochs, or choose another --out"
        )
    progress.settings = settings
    files = weight_files(out, progress)
    if not files["kept"].exists():
        raise damaged(files["kept"], "no such file")
    read_weights(model, files["last"])
    if ema_model is not model:
        read_weights(ema_model, files["ema"])
    return progress


def read_weights(model: Any, path: Path) -> None:
    """Read the weights in `path` into `model`. Raises UserError if they can't be read or don't fit."""
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise damaged(path, first_line(error)) from error


def check_settings(found: dict[str, Any], expected: dict[str, Any], path: Path) -> None:
    """Raise UserError naming the first setting in which the checkpoint at `path` differs.

    Settings that are applied to the trained network may differ; so may the number of epochs where learning
    rate and face size are constant, since that changes nothing in the epochs done.
    """
    digest = found.pop("faces_sha256", None)
    # Settings that are newer than the checkpoint have their default.
    one, two = flat({**to_json(convert(found, str(path))), "faces_sha256": digest}), flat(expected)
    constant = two["fitting.schedule"] == "constant" and len(two["fitting.sizes"]) == 1
    free = ("fitting.epochs", *APPLIED_AFTERWARDS) if constant else APPLIED_AFTERWARDS
    for key in sorted({*one, *two}):
        if one.get(key) != two.get(key) and not key.startswith(free):
            raise UserError(
                f"{path}: expected a checkpoint with {key} {two.get(key)}, found {one.get(key)}; "
                "give the same settings to resume, or another --out"
            )


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the tables in `settings` as one, as in {"fitting.batch": 128}."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        table = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {}
        values |= table or {key: value}
    return values


def damaged(path: Path, why: str) -> UserError:
    """Return the error for a checkpoint that can't be used."""
    return UserError(
        f"{path}: expected a whole checkpoint, found a damaged one ({why}); start again in another --out"
    )
