"""A small residual network (He et al. 2015) with squeeze-and-excitation (Hu et al. 2017).

A convolution at 48x48, max-pooling, then stages of residual blocks with max-pooling between, global average
pooling, dropout and one dense layer an output. Everything is convolutional up to the pooling, so that it can
be trained on smaller faces first.
"""

from typing import Any, Final

import keras
from keras import layers

from pipeline.emotions import EMOTIONS
from trainer.models.normalisation import batch_normalisation
from trainer.settings import Network

EPSILON: Final = 1e-5
"""Of batch normalisation: PyTorch's default."""
MOMENTUM: Final = 0.9


def residual(network: Network, faces: Any, seed: int, training: bool) -> dict[str, Any]:
    """From `faces`, a symbolic tensor in 0..1, to logits (n, 7) by output."""
    axis = 1 if keras.config.image_data_format() == "channels_first" else -1
    x = convolution(faces, network.stem, axis, training)
    for stage in network.stages:
        x = layers.MaxPooling2D(2)(x)
        for filters in stage:
            x = block(x, filters, network.squeeze, axis, training)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(network.dropout, seed=seed)(x)
    return {
        name: layers.Dense(len(EMOTIONS), dtype="float32", name=f"{name}_logits")(x)
        for name in network.outputs
    }


def block(x: Any, filters: int, squeeze: int, axis: int, training: bool) -> Any:
    """Two convolutions beside a shortcut, which is itself one of 1x1 where the filters change."""
    shortcut = x
    if x.shape[axis] != filters:
        shortcut = convolution(x, filters, axis, training, kernel=1, activation=None)
    y = convolution(x, filters, axis, training)
    # The last scale begins at 0, so that a block begins as its shortcut (Goyal et al. 2017, section 5.1).
    y = convolution(y, filters, axis, training, activation=None, scale="zeros")
    if squeeze:
        y = excite(y, filters, squeeze, axis)
    return layers.ReLU()(layers.Add()([shortcut, y]))


def convolution(
    x: Any,
    filters: int,
    axis: int,
    training: bool,
    kernel: int = 3,
    activation: str | None = "relu",
    scale: str = "ones",
) -> Any:
    """Convolution, batch normalisation and, if wanted, ReLU."""
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = batch_normalisation(training, axis=axis, momentum=MOMENTUM, epsilon=EPSILON, gamma_initializer=scale)(
        x
    )
    return layers.ReLU()(x) if activation else x


def excite(x: Any, filters: int, squeeze: int, axis: int) -> Any:
    """Each channel of `x` weighted by what all of them hold on the whole."""
    weight = layers.GlobalAveragePooling2D()(x)
    weight = layers.Dense(max(8, filters // squeeze), activation="relu")(weight)
    weight = layers.Dense(filters, activation="sigmoid")(weight)
    shape = (filters, 1, 1) if axis == 1 else (1, 1, filters)
    return layers.Multiply()([x, layers.Reshape(shape)(weight)])
