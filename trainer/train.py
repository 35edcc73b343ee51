"""The training loop: epochs over the faces, each followed by validation and a checkpoint."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from pipeline.common.errors import UserError, first_line
from pipeline.common.files import clear_unfinished
from pipeline.common.model_card import read_all_keys
from trainer import checkpoint
from trainer.augment import augment
from trainer.checkpoint import Epoch, Progress
from trainer.metrics import label_sets
from trainer.model_file import open_keras_model, predict
from trainer.networks import for_training, unmix_outputs
from trainer.settings import Fitting, Settings, face_size, to_json
from trainer.training_data import TrainingData, log_priors

OnStep = Callable[[int, int], None]
"""Called after each step with the steps done in this epoch and the steps of one."""
OnEpoch = Callable[[Progress], None]

SGD_MOMENTUM: Final = 0.9
STATISTICS_FACES: Final = 8192
"""Training faces from which batch normalisation's statistics are estimated, and how many a batch."""
STATISTICS_BATCH: Final = 512


def fit(
    settings: Settings,
    data: TrainingData,
    out: Path,
    resume: bool,
    on_step: OnStep,
    on_epoch: OnEpoch,
    start: Path | None = None,
) -> Progress:
    """Train for `settings.fitting.epochs`, with a checkpoint in `out` after each.

    With `resume` it continues after the last complete epoch, if there is one, and calls `on_epoch` once for
    the epochs done. Otherwise it starts with the weights of the model in the file `start`, or random ones.
    Raises UserError for a checkpoint or a model that can't be used.
    """
    clear_unfinished(out)
    model, ema_model = build(settings, steps_per_epoch(settings.fitting, data), log_priors(data.targets))
    progress = Progress({**to_json(settings), "faces_sha256": data.sha256})
    if resume and (out / checkpoint.STATE).exists():
        progress = checkpoint.restore(out, progress.settings, model, ema_model)
        on_epoch(progress)
    elif start is not None:
        copy_weights(model, start, settings)
        ema_model.set_weights(model.get_weights())
    while progress.epochs_done < settings.fitting.epochs:
        epoch = run_epoch(model, ema_model, data, settings, progress.epochs_done + 1, on_step)
        check_finite(epoch)
        progress.history.append(epoch)
        checkpoint.save(out, progress, model, ema_model)
        on_epoch(progress)
    return progress


def build(
    settings: Settings, steps: int, priors: Mapping[str, NDArray[np.float64]] | None = None
) -> tuple[Any, Any]:
    """Return the compiled network to train, for `steps` an epoch, and the one with the EMA of its weights.

    They are the same where nothing is averaged. `fitting.balance` needs `priors`, from `log_priors`.
    """
    model = for_training(settings)
    ema_model = for_training(settings) if settings.fitting.average else model
    outputs = settings.network.outputs
    model.compile(
        optimizer=make_optimizer(settings.fitting, steps),
        loss={name: make_loss(settings.fitting.balance, (priors or {}).get(name)) for name in outputs},
        weighted_metrics={name: [keras.metrics.CategoricalAccuracy(name="top1")] for name in outputs},
        jit_compile=False,  # uncompiled, TensorFlow and PyTorch convolve with oneDNN, which is faster
    )
    model.optimizer.build(model.trainable_variables)
    return model, ema_model


def make_loss(balance: float, prior: NDArray[np.float64] | None) -> Any:
    """Return the cross-entropy of logits plus `balance` times the log `prior` (7,): Ren et al. 2020."""
    if not balance or prior is None:
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    added = np.asarray(balance * prior, np.float32)

    def balanced_softmax(labels: Any, logits: Any) -> Any:
        ahead = logits + keras.ops.convert_to_tensor(added)
        return keras.losses.categorical_crossentropy(labels, ahead, from_logits=True)

    return balanced_softmax


def make_optimizer(fitting: Fitting, steps: int) -> Any:
    """Return the optimizer with the learning rate of `fitting`, for `steps` an epoch."""
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
    # Keras subtracts the decay from the weights, once a step. The L2 penalty in the gradient, which papers
    # state, passes through the momentum and so acts 1 / (1 - momentum) times as strongly.
    decay = fitting.weight_decay / (1 - SGD_MOMENTUM) or None
    optimizer = keras.optimizers.SGD(rate, momentum=SGD_MOMENTUM, nesterov=True, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def steps_per_epoch(fitting: Fitting, data: TrainingData) -> int:
    """Return the steps of an epoch; the last may have fewer faces."""
    return math.ceil(len(data.train) / fitting.batch)


def copy_weights(network: Any, path: Path, settings: Settings) -> None:
    """Copy the weights of the model in the file `path` to `network`, of the outputs that both have.

    Raises UserError if they don't fit, or if the model lacks an output of the network.
    """
    card = read_all_keys(path)
    wanted, given = settings.network.outputs, card["outputs"]
    if missing := set(wanted) - set(given):
        raise UserError(
            f"{path}: expected a model with the outputs {', '.join(wanted)} to start with, found "
            f"{', '.join(given)}; choose another --start"
            + (f", or --outputs {' '.join(set(wanted) - missing)}" if set(wanted) - missing else "")
        )
    unused = {f"{name}_logits" for name in given if name not in wanted}
    model = open_keras_model(path)
    unmix_outputs(model, card.get("settings", {}))
    layers = [layer for layer in model.layers if layer.name not in unused]
    try:
        network.set_weights([weight for layer in layers for weight in layer.get_weights()])
    except ValueError as error:
        raise UserError(
            f"{path}: expected a model of the network that is trained, found another "
            f"({first_line(error)}); choose another --start"
        ) from error


def run_epoch(
    model: Any, ema_model: Any, data: TrainingData, settings: Settings, number: int, on_step: OnStep
) -> Epoch:
    """Train on all training faces once, then validate. `number` counts from 1."""
    started_s = time.monotonic()
    fitting, pixels = settings.fitting, data.train.pixels
    # Order and augmentation depend on the seed and the epoch alone, so that a resumed run repeats them.
    rng = np.random.default_rng([settings.seed, number])
    order = rng.permutation(len(pixels))
    size = face_size(fitting, number)
    steps = steps_per_epoch(fitting, data)
    seed_dropout(model, settings.seed, number)
    top1 = f"{settings.network.outputs[0]}_top1"
    sums = np.zeros(2)
    for step in range(1, steps + 1):
        indices = order[(step - 1) * fitting.batch : step * fitting.batch]
        faces = augment(pixels[indices], rng, settings.augmentation, settings.degradation, size)
        targets = data.targets.take(indices)
        found = model.train_on_batch(faces, targets.probabilities, targets.weights, return_dict=True)
        sums += len(indices) * np.array([found["loss"], found.get(top1, found.get("top1"))])
        if ema_model is not model:
            # A smaller decay at the start: the average would otherwise be that of the initial weights.
            done = (number - 1) * steps + step
            update_ema(ema_model, model, min(fitting.average, done / (done + 10)))
        on_step(step, steps)
    if fitting.statistics == "estimated":
        estimate_statistics(ema_model, pixels, settings.seed)
    return Epoch(
        epoch=number,
        loss=float(sums[0] / len(pixels)),
        top1=float(sums[1] / len(pixels)),
        **validate(ema_model, data),
        seconds=round(time.monotonic() - started_s, 1),
    )


def seed_dropout(model: Any, seed: int, number: int) -> None:
    """Set the random state of all layers of `model` from the seed and the epoch's `number`.

    Keras doesn't save that state with a network, so a resumed run would otherwise drop other units.
    """
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            # The second number counts up by one a step; 65,536 apart, epochs don't overlap.
            variable.assign(np.array([seed, number * 2**16], np.uint32))


def update_ema(ema_model: Any, model: Any, decay: float) -> None:
    """Set each weight of `ema_model` to `decay` times itself plus the rest of `model`'s (Polyak 1992).

    Batch normalisation's moving statistics are averaged like the weights.
    """
    for mean, value in zip(ema_model.weights, model.weights, strict=True):
        mean.assign(mean + (1 - decay) * (keras.ops.cast(value, mean.dtype) - mean))


def estimate_statistics(model: Any, pixels: NDArray[np.uint8], seed: int) -> None:
    """Set batch normalisation's mean and variance to the average over batches of plain training faces.

    Moving averages with a momentum of 0.99 take some thirty short epochs to follow the batches.
    `pixels` (n, 48, 48, 1) uint8, n at least 1; the same faces are used for one seed.
    """
    normalising = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropping = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    if not normalising:
        return
    momenta, rates = [layer.momentum for layer in normalising], [layer.rate for layer in dropping]
    indices = np.random.default_rng(seed).permutation(len(pixels))[:STATISTICS_FACES]
    for layer in dropping:
        layer.rate = 0.0
    try:
        for number, batch in enumerate(np.array_split(indices, max(1, len(indices) // STATISTICS_BATCH))):
            for layer in normalising:
                layer.momentum = number / (number + 1)  # a plain average over the batches
            model(pixels[np.sort(batch)], training=True)
    finally:
        for layer, momentum in zip(normalising, momenta, strict=True):
            layer.momentum = momentum
        for layer, rate in zip(dropping, rates, strict=True):
            layer.rate = rate


def validate(model: Any, data: TrainingData) -> dict[str, float | None]:
    """Return mean cross-entropy (nats) and top-1 (fractions of 1) on validation, named as in `Epoch`.

    Each output is validated by the labels of its name; None without the output or without such labels.
    """
    logits = predict(model, data.validation.pixels)
    sets = label_sets(data.validation, data.consensus)
    metrics: dict[str, float | None] = {}
    for name, prefix in (("fer2013", "validation_"), ("consensus", "validation_consensus_")):
        metrics |= {f"{prefix}loss": None, f"{prefix}top1": None}
        if name in logits and name in sets:
            rows = sets[name] >= 0
            logs, labels = log_softmax(logits[name][rows].astype(np.float64), axis=1), sets[name][rows]
            metrics[f"{prefix}loss"] = float(-logs[np.arange(len(labels)), labels].mean())
            metrics[f"{prefix}top1"] = float((logs.argmax(axis=1) == labels).mean())
    return metrics


def check_finite(epoch: Epoch) -> None:
    """Raise UserError if training has diverged in `epoch`."""
    for name in ("loss", "validation_loss", "validation_consensus_loss"):
        value = getattr(epoch, name)
        if value is not None and not math.isfinite(value):
            raise UserError(
                f"epoch {epoch.epoch}: training has diverged: {name} is {value}; start again in another "
                "--out with a lower learning rate, as in --set fitting.learning_rate=0.01"
            )
