"""Training: epochs over the faces, each checked on validation and followed by a checkpoint."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from pipeline.common.errors import UserError, first_line
from pipeline.common.files import clear_unfinished
from trainer.card import read_card
from trainer.fitting import augment, checkpoint
from trainer.fitting.checkpoint import Epoch, Progress
from trainer.fitting.training_data import Lesson
from trainer.models.build import for_training
from trainer.scoring.network import load_model, predictions
from trainer.settings import Fitting, Settings, size_in


def move_average(averaged: Any, model: Any, decay: float) -> None:
    """Move the weights of `averaged`, another network like `model`, towards those of `model`.

    Exponential: each weight becomes `decay` times itself plus the rest of the other's (Polyak and Juditsky
    1992). Batch normalisation's moving statistics are averaged with the rest.
    """
    for mean, value in zip(averaged.weights, model.weights, strict=True):
        mean.assign(mean + (1 - decay) * (keras.ops.cast(value, mean.dtype) - mean))


# ---- How a network in training does on the validation part.


def validate(model: Any, lesson: Lesson) -> dict[str, float | None]:
    """Mean cross-entropy (nats) and top-1 (fractions of 1) on validation, as `Epoch` has them.

    By FER2013's labels for that output, by the people's majority for the other; None without the output or
    without votes.
    """
    found = predictions(model, lesson.validation.pixels)  # of a network in training: logits
    truths = {"fer2013": lesson.validation.labels, "consensus": lesson.consensus}
    figures: dict[str, float | None] = {}
    for name, truth in truths.items():
        known = truth >= 0
        prefix = "validation_" if name == "fer2013" else "validation_consensus_"
        if name not in found or not known.any():
            figures |= {f"{prefix}loss": None, f"{prefix}top1": None}
            continue
        logs, wanted = log_softmax(found[name][known].astype(np.float64), axis=1), truth[known]
        figures[f"{prefix}loss"] = float(-logs[np.arange(len(wanted)), wanted].mean())
        figures[f"{prefix}top1"] = float((logs.argmax(axis=1) == wanted).mean())
    return figures


# ---- The statistics that batch normalisation uses outside training, estimated anew for the finished weights.


FACES: Final = 8192
BATCH: Final = 512


def estimate_statistics(model: Any, pixels: NDArray[np.uint8], seed: int) -> None:
    """Set each moving mean and variance of `model` to the average over batches of plain faces.

    pixels: training faces (n, 48, 48, 1) uint8, n at least 1, of which the same 8192 are used for one seed.
    """
    normalising = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropping = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    if not normalising:
        return
    kept = [(layer, layer.momentum) for layer in normalising], [(layer, layer.rate) for layer in dropping]
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:FACES]
    for layer in dropping:
        layer.rate = 0.0
    try:
        for number, batch in enumerate(np.array_split(chosen, max(1, len(chosen) // BATCH))):
            for layer in normalising:
                layer.momentum = number / (number + 1)  # a plain average over the batches
            model(pixels[np.sort(batch)], training=True)
    finally:
        for layer, momentum in kept[0]:
            layer.momentum = momentum
        for layer, rate in kept[1]:
            layer.rate = rate


# ---- Training: epochs over the faces, each checked on validation and followed by a checkpoint.


OnStep = Callable[[int, int], None]
"""Called after each step with the steps done in this epoch and the steps of one."""
OnEpoch = Callable[[Progress], None]

MOMENTUM: Final = 0.9


def all_settings(settings: Settings, lesson: Lesson) -> dict[str, Any]:
    """Everything that the result depends on, for the checkpoint and the card; plain JSON."""
    values: dict[str, Any] = msgspec.to_builtins(settings)
    return {**values, "faces_sha256": lesson.sha256}


def fit(
    settings: Settings,
    lesson: Lesson,
    out: Path,
    resume: bool,
    on_step: OnStep,
    on_epoch: OnEpoch,
    start: Path | None = None,
) -> Progress:
    """Train for `settings.fitting.epochs`, with a checkpoint in `out` after each.

    With `resume` it goes on from the last complete epoch, if there is one, else with the weights of the model
    in the file `start`, if it is given. Calls `on_epoch` once more at the start for what was resumed. Raises
    UserError if `out` holds a checkpoint, or `start` a model, that doesn't fit.
    """
    clear_unfinished(out)
    model, averaged = begin(settings, steps_of(settings.fitting, lesson))
    progress = Progress(all_settings(settings, lesson))
    if resume and (out / checkpoint.STATE).exists():
        progress = checkpoint.restore(out, progress.settings, model, averaged)
        on_epoch(progress)
    elif start is not None:
        take_weights(model, start, settings)
        averaged.set_weights(model.get_weights())
    while progress.epochs_done < settings.fitting.epochs:
        epoch = run_epoch(model, averaged, lesson, settings, progress.epochs_done + 1, on_step)
        check_finite(epoch)
        progress.history.append(epoch)
        checkpoint.save(out, progress, model, averaged)
        on_epoch(progress)
    return progress


def check_finite(epoch: Epoch) -> None:
    """Raise UserError if training has diverged in `epoch`: nothing would come of going on."""
    for name in ("loss", "validation_loss", "validation_consensus_loss"):
        value = getattr(epoch, name)
        if value is not None and not math.isfinite(value):
            raise UserError(
                f"epoch {epoch.epoch}: expected a finite {name}, found {value}: training has diverged; train "
                "anew in another --out with a lower rate, as in --set fitting.learning_rate=0.01"
            )


def begin(settings: Settings, steps: int) -> tuple[Any, Any]:
    """The compiled network to train, `steps` an epoch, and the one that holds its average.

    They are the same where nothing is averaged.
    """
    model = for_training(settings)
    averaged = for_training(settings) if settings.fitting.average else model
    weights = {"fer2013": 1.0, "consensus": settings.fitting.consensus_weight}
    outputs = settings.network.outputs
    model.compile(
        optimizer=make_optimizer(settings.fitting, steps),
        loss={name: keras.losses.CategoricalCrossentropy(from_logits=True) for name in outputs},
        loss_weights={name: weights[name] for name in outputs},
        weighted_metrics={name: [keras.metrics.CategoricalAccuracy(name="top1")] for name in outputs},
        # Uncompiled, TensorFlow and PyTorch convolve with oneDNN; JAX has nothing but XLA.
        jit_compile=keras.backend.backend() == "jax",
    )
    model.optimizer.build(model.trainable_variables)
    return model, averaged


def take_weights(network: Any, path: Path, settings: Settings) -> None:
    """Give `network` the weights of the model in the file `path`. Raises UserError if they don't fit."""
    found = read_card(path)["outputs"]
    if list(settings.network.outputs) != found:
        raise UserError(
            f"{path}: expected a model with the outputs {', '.join(settings.network.outputs)} to start with, "
            f"found {', '.join(found)}; choose another --start, or other --outputs"
        )
    try:
        network.set_weights(load_model(path).get_weights())
    except ValueError as error:
        raise UserError(
            f"{path}: expected a model of the network that is trained, found another "
            f"({first_line(error)}); choose another --start"
        ) from error


def make_optimizer(fitting: Fitting, steps: int) -> Any:
    """Adam or Nesterov's SGD with the learning rate of `fitting`, at `steps` an epoch."""
    rate: Any = fitting.learning_rate
    if fitting.schedule == "cosine":
        warmup = min(fitting.warmup_steps, steps * fitting.epochs // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            decay_steps=steps * fitting.epochs - warmup,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    if fitting.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    # Keras takes the decay off the weights directly, once a step. An L2 penalty in the gradient would pass
    # through the momentum, and so act 1 / (1 - momentum) times as strongly, which is what papers give.
    decay = fitting.weight_decay / (1 - MOMENTUM) or None
    optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def steps_of(fitting: Fitting, lesson: Lesson) -> int:
    """Steps an epoch; the last may be of fewer faces."""
    return math.ceil(len(lesson.train) / fitting.batch)


def run_epoch(
    model: Any, averaged: Any, lesson: Lesson, settings: Settings, number: int, on_step: OnStep
) -> Epoch:
    """One pass over the training faces, then validation. `number` counts from 1."""
    started = time.monotonic()
    fitting, pixels = settings.fitting, lesson.train.pixels
    # Order and augmentation follow from the seed and the epoch alone, so that a resumed run sees the same.
    rng = np.random.default_rng([settings.seed, number])
    order = rng.permutation(len(pixels))
    size = size_in(fitting, number)
    steps = steps_of(fitting, lesson)
    seed_dropout(model, settings.seed, number)
    name = settings.network.outputs[0]
    sums = np.zeros(2)
    for step in range(1, steps + 1):
        chosen = order[(step - 1) * fitting.batch : step * fitting.batch]
        faces = augment.augment(pixels[chosen], rng, settings.augmentation, size)
        targets = lesson.targets.chosen(chosen)
        found = model.train_on_batch(faces, targets.wanted, targets.weights, return_dict=True)
        sums += len(chosen) * np.array([found["loss"], found.get(f"{name}_top1", found.get("top1"))])
        if averaged is not model:
            # In the beginning the average would be that of the first weights, which are nothing yet.
            done = (number - 1) * steps + step
            move_average(averaged, model, min(fitting.average, done / (done + 10)))
        on_step(step, steps)
    if fitting.statistics == "estimated":
        estimate_statistics(averaged, pixels, settings.seed)
    return Epoch(
        epoch=number,
        loss=float(sums[0] / len(pixels)),
        top1=float(sums[1] / len(pixels)),
        **validate(averaged, lesson),
        seconds=round(time.monotonic() - started, 1),
    )


def seed_dropout(model: Any, seed: int, number: int) -> None:
    """Set the random state of all layers of `model` from the seed and the epoch's `number`.

    Keras doesn't save that state with a network: without this a resumed run would drop other units.
    """
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            # The second number counts up by one a step; 65,536 apart, epochs don't overlap.
            variable.assign(np.array([seed, number * 2**16], np.uint32))
