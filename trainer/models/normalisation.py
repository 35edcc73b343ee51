"""Batch normalisation in training, by PyTorch's own kernel where PyTorch does the computing.

Keras composes it of several passes over the activations, each of which autograd goes through once more.
PyTorch has one kernel for it. The layer is Keras's own but for that, has the same weights,
and is never saved: networks that are kept hold Keras's.
"""

from typing import Any

import keras
from keras import layers


def batch_normalisation(training: bool, **options: Any) -> Any:
    """The layer; Keras's own where the network is not to be trained, or not by PyTorch."""
    if training and keras.backend.backend() == "torch":
        return FusedBatchNormalization(**options)
    return layers.BatchNormalization(**options)


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """As its parent, of inputs with four dimensions."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """`inputs` normalised by the batch in training, else by the moving statistics."""
        import torch

        last = self.axis in (-1, 3)
        outputs = torch.nn.functional.batch_norm(
            inputs.permute(0, 3, 1, 2) if last else inputs,
            self.moving_mean.value,
            self.moving_variance.value,
            self.gamma.value,
            self.beta.value,
            training=bool(training),
            momentum=1 - self.momentum,  # PyTorch's is the share of the new
            eps=self.epsilon,
        )
        return outputs.permute(0, 2, 3, 1) if last else outputs
