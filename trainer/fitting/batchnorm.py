"""The statistics that batch normalisation uses outside training, estimated anew for the finished weights.

In training a layer normalises by the statistics of its batch, and keeps a moving average for later use. That
average lags behind the weights (at 28 steps an epoch and Keras's momentum of 0.99, by several epochs), and it
is of augmented faces with dropout on. It is estimated from plain training faces instead, as the network will
be used: Wu and Johnson, "Rethinking 'Batch' in BatchNorm" (2021), section 3. Training itself is not changed.
"""

from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

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
