"""What a training needs to go on where it stopped, on disk after every epoch.

Three kinds of file: the network with its optimizer after the last complete epoch, the network of the best
epoch so far, and `checkpoint.json`, which names both. The JSON is replaced last, so that a kill at any moment
leaves a checkpoint that is complete, of this epoch or the one before.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import keras

from pipeline.errors import UserError
from trainer.files import replacing, write_json
from trainer.history import Epoch, Progress
from trainer.model import MODELS

STATE: Final = "checkpoint.json"


def network_file(out: Path, progress: Progress) -> Path:
    """The network with its optimizer, to go on from."""
    return out / f"last-{progress.epochs_done:04d}.keras"


def best_file(out: Path, progress: Progress) -> Path:
    """The network of the best epoch, as it will be used: without optimizer."""
    return out / f"best-{progress.best.epoch:04d}.keras"


def save(out: Path, progress: Progress, model: Any) -> None:
    """Write the checkpoint of the epoch that `model` has just completed, and remove the one before."""
    with replacing(network_file(out, progress)) as temporary:
        model.save(temporary)
    if progress.best.epoch == progress.epochs_done:
        with replacing(best_file(out, progress)) as temporary:
            without_optimizer(model, progress.settings).save(temporary)
    write_json(out / STATE, asdict(progress))
    keep = {network_file(out, progress), best_file(out, progress)}
    for file in [*out.glob("last-*.keras"), *out.glob("best-*.keras")]:
        if file not in keep:
            file.unlink(missing_ok=True)


def without_optimizer(model: Any, settings: dict[str, Any]) -> Any:
    """A copy of `model` for inference only: a third of the size."""
    copy = MODELS[settings["model"]](settings["seed"])
    copy.set_weights(model.get_weights())
    return copy


def restore(out: Path, settings: dict[str, Any]) -> tuple[Progress, Any] | None:
    """Progress and network of the checkpoint in `out`, or None where there is none.

    Raises UserError if the checkpoint is of other settings or damaged.
    """
    if not (out / STATE).exists():
        return None
    progress = read_progress(out / STATE)
    check_settings(progress.settings, settings, out)
    if progress.epochs_done > settings["epochs"]:
        raise UserError(
            f"{out / STATE}: expected at most {settings['epochs']} epochs done, "
            f"found {progress.epochs_done}; ask for more --epochs, or choose another --out"
        )
    progress.settings = settings
    file = network_file(out, progress)
    if not best_file(out, progress).exists():
        raise damaged(best_file(out, progress), "no such file")
    try:
        return progress, keras.saving.load_model(file, safe_mode=True)
    except (OSError, ValueError) as error:
        raise damaged(file, str(error).splitlines()[0]) from error


def read_progress(path: Path) -> Progress:
    """The JSON of a checkpoint. Raises UserError if it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        progress = Progress(value["settings"], [Epoch(**epoch) for epoch in value["history"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error)) from error
    if not progress.history:
        raise damaged(path, "no epochs in it")
    return progress


def check_settings(found: dict[str, Any], expected: dict[str, Any], out: Path) -> None:
    """Raise UserError naming the first setting in which the checkpoint differs.

    More epochs are no other setting: as the learning rate is constant, those done are the same.
    """
    for key in sorted({*found, *expected} - {"epochs"}):
        if found.get(key) != expected.get(key):
            raise UserError(
                f"{out / STATE}: expected a checkpoint with {key} {expected.get(key)}, "
                f"found {found.get(key)}; give the same settings to resume, or another --out"
            )


def damaged(path: Path, why: str) -> UserError:
    """The error for a checkpoint that can't be used."""
    return UserError(
        f"{path}: expected a whole checkpoint, found a damaged one ({why}); train anew in another --out"
    )
