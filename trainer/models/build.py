"""Networks as they are trained and as they are kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import keras
from keras import layers

from pipeline.emotions import FACE_SIZE
from trainer.models.baseline import baseline
from trainer.models.residual import residual
from trainer.settings import Settings

NAME: Final = "emotions"
"""Of the network within Keras, where not every file name that settings may have is a valid one."""


def for_training(settings: Settings) -> Any:
    """The network of `settings` with new weights: uint8 faces (n, size, size, 1) in, a dict of logits out.

    The logits are (n, 7) float32 in the order of EMOTIONS, by output. `settings.seed` decides weights and
    dropout. The baseline takes 48x48 alone.
    """
    keras.utils.set_random_seed(settings.seed)
    # PyTorch's convolutions are quickest so; the memory is laid out channels last all the same, since that is
    # what transposed faces have and every layer keeps it.
    first = keras.backend.backend() == "torch" and settings.network.kind == "residual"
    with globals_set(settings.precision, "channels_first" if first else "channels_last"):
        size = FACE_SIZE if settings.network.kind == "baseline" else None
        faces = keras.Input((size, size, 1), dtype="uint8", name="faces")
        return keras.Model(faces, logits(settings, faces, training=True), name=NAME)


def for_use(
    settings: Settings,
    weights: list[Any],
    temperatures: Mapping[str, float],
    offsets: Mapping[str, Sequence[float]],
) -> Any:
    """The network as it is kept: faces (n, 48, 48, 1) in, a dict of probabilities out, in float32.

    weights: as `get_weights` of the one that was trained gives them; the order is the same.
    offsets: seven numbers by output, that are added to its logits if there are any.
    temperatures: by output; the sums are divided by them.
    """
    with globals_set("float32", "channels_last"):
        faces = keras.Input((FACE_SIZE, FACE_SIZE, 1), dtype="uint8", name="faces")
        outputs = {}
        for name, tensor in logits(settings, faces, training=False).items():
            scale = 1 / temperatures[name]
            added: Any = [offset * scale for offset in offsets[name]] if name in offsets else 0.0
            rescaling = layers.Rescaling(scale, added, name=f"{name}_temperature")
            outputs[name] = layers.Softmax(name=name)(rescaling(tensor))
        model = keras.Model(faces, outputs, name=NAME)
    model.set_weights(weights)
    return model


def logits(settings: Settings, faces: Any, training: bool) -> dict[str, Any]:
    """The network's body on the symbolic `faces`."""
    scaled = layers.Rescaling(1 / 255)(faces)
    if settings.network.kind == "baseline":
        return baseline(scaled, settings.network.dropout, settings.seed)
    if keras.config.image_data_format() == "channels_first":
        scaled = layers.Permute((3, 1, 2))(scaled)
    return residual(settings.network, scaled, settings.seed, training)


@contextmanager
def globals_set(precision: str, data_format: str) -> Iterator[None]:
    """Keras's precision and data format, which layers take when they are made, set for a block."""
    kept = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy(precision)
    keras.config.set_image_data_format(data_format)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(kept[0])
        keras.config.set_image_data_format(kept[1])
