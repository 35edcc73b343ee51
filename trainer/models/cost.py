"""What a network costs."""

from typing import Any

from keras import layers


def multiply_adds(model: Any) -> int:
    """Multiply-adds of one face through `model`: those of its convolutions and dense layers.

    Raises NotImplementedError for a layer with weights that it doesn't know, rather than count it as free.
    """
    return sum(layer_multiply_adds(layer) for layer in model.layers)


def layer_multiply_adds(layer: Any) -> int:
    """As `multiply_adds`, of one layer."""
    if isinstance(layer, layers.Conv2D):
        _, height, width, filters = layer.output.shape
        # The kernel holds (rows, columns, channels in, filters); each filter is applied at each place.
        return int(
            height * width * layer.kernel.shape[0] * layer.kernel.shape[1] * layer.kernel.shape[2] * filters
        )
    if isinstance(layer, layers.Dense):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1])
    if layer.weights and not isinstance(layer, layers.BatchNormalization):
        raise NotImplementedError(f"multiply-adds of {type(layer).__name__}")
    return 0
