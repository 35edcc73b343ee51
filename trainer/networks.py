"""The networks: the tutorial's baseline and a small residual one, for training and for use."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import keras
import numpy as np
from keras import layers

from pipeline.common.labels import EMOTIONS, FACE_SIZE
from trainer.settings import Network, Settings

NAME: Final = "emotions"
"""Of the Keras model: the name of the settings may not be a valid one."""
EPSILON: Final = 1e-5
"""Of batch normalisation in the residual network: PyTorch's default."""
MOMENTUM: Final = 0.9
LEAST: Final = 1e-9
"""Added to each share of someone's model before it is divided by their sum."""


def for_training(settings: Settings) -> Any:
    """Return the network of `settings` with new weights: uint8 faces (n, size, size, 1) in, logits out.

    The logits are a dict of (n, 7) float32 by output, in the order of EMOTIONS. `settings.seed` determines
    weights and dropout. The baseline takes 48x48 only.
    """
    keras.utils.set_random_seed(settings.seed)
    # PyTorch's convolutions are fastest with channels first. The memory layout is still channels last: the
    # transposed faces have it, and every layer keeps it.
    first = keras.backend.backend() == "torch" and settings.network.kind == "residual"
    with keras_defaults(settings.precision, "channels_first" if first else "channels_last"):
        size = FACE_SIZE if settings.network.kind == "baseline" else None
        faces = keras.Input((size, size, 1), dtype="uint8", name="faces")
        return keras.Model(faces, logits(settings, faces, training=True), name=NAME)


def for_use(
    settings: Settings,
    weights: list[Any],
    temperatures: Mapping[str, float],
    offsets: Mapping[str, Sequence[float]],
) -> Any:
    """Return the network as it is shipped: faces (n, 48, 48, 1) in, a dict of probabilities out, in float32.

    weights: as `get_weights` of the trained network returns them; the order is the same.
    offsets: seven numbers by output, added to its logits if there are any.
    temperatures: by output; the sums are divided by them.
    """
    with keras_defaults("float32", "channels_last"):
        faces = keras.Input((FACE_SIZE, FACE_SIZE, 1), dtype="uint8", name="faces")
        outputs = {}
        for name, tensor in logits(settings, faces, training=False).items():
            scale = 1 / temperatures[name]
            added: Any = [offset * scale for offset in offsets[name]] if name in offsets else 0.0
            rescaling = layers.Rescaling(scale, added, name=f"{name}_temperature")
            outputs[name] = layers.Softmax(name=name)(rescaling(tensor))
        model = keras.Model(faces, outputs, name=NAME)
    model.set_weights(weights)
    mix_outputs(model, settings.adjustment.mix)
    return model


def mix_outputs(model: Any, mix: float) -> None:
    """Replace the logits of consensus by (1 - mix) of them and `mix` of those of fer2013.

    -mix / (1 - mix) undoes it. Both are linear in the same features, so the last layer's weights do it.
    """
    if not mix:
        return
    layer, other = (model.get_layer(f"{name}_logits") for name in ("consensus", "fer2013"))
    pairs = zip(layer.get_weights(), other.get_weights(), strict=True)
    layer.set_weights([(1 - mix) * own + mix * added for own, added in pairs])


def unmix_outputs(model: Any, settings: Mapping[str, Any]) -> None:
    """Give a saved `model` the weights that training left it, given the `settings` in its card."""
    mix = settings.get("adjustment", {}).get("mix", 0.0)
    mix_outputs(model, -mix / (1 - mix))


@contextmanager
def keras_defaults(precision: str, data_format: str) -> Iterator[None]:
    """Set Keras's precision and data format, which new layers adopt, within a block."""
    kept = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy(precision)
    keras.config.set_image_data_format(data_format)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(kept[0])
        keras.config.set_image_data_format(kept[1])


def logits(settings: Settings, faces: Any, training: bool) -> dict[str, Any]:
    """Return the logits (n, 7) by output, from symbolic uint8 `faces`."""
    scaled = layers.Rescaling(1 / 255)(faces)
    if settings.network.kind == "baseline":
        return baseline(scaled, settings.network.dropout, settings.seed)
    if keras.config.image_data_format() == "channels_first":
        scaled = layers.Permute((3, 1, 2))(scaled)
    return residual(settings.network, scaled, settings.seed, training)


def baseline(x: Any, dropout: float, seed: int) -> dict[str, Any]:
    """Build the tutorial's network of 555,623 parameters on faces in 0..1."""
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.BatchNormalization()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dropout(dropout, seed=seed)(x)
    x = layers.BatchNormalization()(x)
    return {"fer2013": layers.Dense(len(EMOTIONS), dtype="float32", name="fer2013_logits")(x)}


def residual(network: Network, x: Any, seed: int, training: bool) -> dict[str, Any]:
    """Build a residual network (He et al. 2015) with squeeze-and-excitation (Hu et al. 2017)."""
    axis = 1 if keras.config.image_data_format() == "channels_first" else -1
    x = convolution(x, network.stem, axis, training)
    for stage in network.stages:
        x = layers.MaxPooling2D(2)(x)
        for filters in stage:
            x = block(x, filters, network.squeeze, axis, training)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(network.dropout, seed=seed)(x)
    dense = {"units": len(EMOTIONS), "dtype": "float32"}
    return {name: layers.Dense(**dense, name=f"{name}_logits")(x) for name in network.outputs}


def block(x: Any, filters: int, squeeze: int, axis: int, training: bool) -> Any:
    """Add two convolutions and a shortcut, which has a convolution of 1x1 where the filters change."""
    shortcut = x
    if x.shape[axis] != filters:
        shortcut = convolution(x, filters, axis, training, kernel=1, relu=False)
    y = convolution(x, filters, axis, training)
    # The last scale starts at 0, so that a block starts as its shortcut (Goyal et al. 2017, section 5.1).
    y = convolution(y, filters, axis, training, relu=False, scale="zeros")
    if squeeze:
        weight = layers.GlobalAveragePooling2D()(y)
        weight = layers.Dense(max(8, filters // squeeze), activation="relu")(weight)
        weight = layers.Dense(filters, activation="sigmoid")(weight)
        shape = (filters, 1, 1) if axis == 1 else (1, 1, filters)
        y = layers.Multiply()([y, layers.Reshape(shape)(weight)])
    return layers.ReLU()(layers.Add()([shortcut, y]))


def convolution(
    x: Any, filters: int, axis: int, training: bool, kernel: int = 3, relu: bool = True, scale: str = "ones"
) -> Any:
    """Add a convolution, batch normalisation and, if wanted, ReLU."""
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    options = {"axis": axis, "momentum": MOMENTUM, "epsilon": EPSILON, "gamma_initializer": scale}
    x = batch_normalisation(training, **options)(x)
    return layers.ReLU()(x) if relu else x


def batch_normalisation(training: bool, **options: Any) -> Any:
    """Return the layer: fused where PyTorch trains the network, Keras's own elsewhere."""
    fused = training and keras.backend.backend() == "torch"
    return FusedBatchNormalization(**options) if fused else layers.BatchNormalization(**options)


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Batch normalisation of 4-D inputs by PyTorch's kernel; Keras composes it of several passes."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise `inputs` by the batch in training, else by the moving statistics."""
        import torch

        last = self.axis in (-1, 3)
        outputs = torch.nn.functional.batch_norm(
            inputs.permute(0, 3, 1, 2) if last else inputs,
            self.moving_mean.value,
            self.moving_variance.value,
            self.gamma.value,
            self.beta.value,
            training=bool(training),
            momentum=1 - self.momentum,  # PyTorch's is the share of the new value
            eps=self.epsilon,
        )
        return outputs.permute(0, 2, 3, 1) if last else outputs


def seven_probabilities(
    model: Any, labels: Sequence[str], low: float, high: float, bgr: bool
) -> tuple[Any, str]:
    """Return a network of uint8 faces, RGB or grey, and probabilities (n, 7) around someone's `model`.

    `labels` are the emotions of the model's outputs, "" for others; it takes pixels from `low` to `high`,
    with `bgr` in OpenCV's order. Also returns what its outputs are: probabilities, logits or sigmoids.
    """
    faces = keras.Input(model.input_shape[1:], dtype="uint8", name="faces")
    pixels = layers.Rescaling((high - low) / 255, low, name="faces_scaled")(faces)
    if bgr:
        reverse = keras.initializers.Constant(np.eye(3)[::-1].reshape(1, 1, 3, 3))
        pixels = layers.Conv2D(3, 1, kernel_initializer=reverse, name="faces_bgr")(pixels)
    outputs = model(pixels)
    noise = np.random.default_rng(0).integers(0, 256, (8, *model.input_shape[1:]), np.uint8)
    found = np.asarray(keras.Model(faces, outputs).predict_on_batch(noise))
    if found.min() >= 0 and np.allclose(found.sum(axis=1), 1, atol=1e-3):
        ends_with = "probabilities"
    else:
        ends_with = "sigmoids" if found.min() >= 0 and found.max() <= 1 else "logits"
    if ends_with == "logits":
        outputs = layers.Softmax(name="emotions_softmax")(outputs)
    divided = "" in labels or ends_with == "sigmoids"
    choice = np.array([[label == emotion for emotion in EMOTIONS] for label in labels], np.float32)
    choose = layers.Dense(
        len(EMOTIONS),
        kernel_initializer=keras.initializers.Constant(choice),
        # The outputs are divided by their sum, which may not be 0.
        bias_initializer=keras.initializers.Constant(LEAST if divided else 0.0),
        name="emotions_chosen",
    )
    outputs = choose(outputs)
    if divided:
        total = layers.Dense(len(EMOTIONS), use_bias=False, kernel_initializer="ones", name="emotions_total")
        outputs = outputs / total(outputs)
    return keras.Model(faces, outputs), ends_with


def multiply_adds(model: Any) -> int | None:
    """Return the multiply-adds of one face through `model`: those of its convolutions and dense layers.

    None if it has weights in a layer of another kind, besides batch normalisation.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            _, height, width, _ = layer.output.shape
            total += height * width * math.prod(layer.kernel.shape)
        elif isinstance(layer, layers.Dense):
            total += math.prod(layer.kernel.shape)
        elif layer.weights and not isinstance(layer, layers.BatchNormalization):
            return None
    return total
