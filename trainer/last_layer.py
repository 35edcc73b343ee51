"""The last layer of `consensus`, fitted again on the features of the trained network (Kang et al. 2020)."""

from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from trainer.model_file import predict
from trainer.networks import for_use
from trainer.settings import Settings
from trainer.training_data import TrainingData, log_priors

LAYER: Final = "consensus_logits"
SHARPNESS: Final = 2
"""Power to which the targets are raised: what most people see counts for more than while training."""
PENALTY: Final = 1e-4
"""Factor of the squared weights, of features with a standard deviation of 1."""
STEPS: Final = 500
"""L-BFGS takes at most; some 200 are enough for the shipped network."""


def refit_last_layer(settings: Settings, weights: list[Any], data: TrainingData) -> list[Any]:
    """Return `weights` with a new last layer of consensus, if `adjustment.refit` asks for one.

    It is trained with plain training faces and their mirror images. The rest of the network stays as it is,
    so this costs two predictions of the training faces.
    """
    if not settings.adjustment.refit:
        return weights
    ones: dict[str, float] = dict.fromkeys(settings.network.outputs, 1.0)
    network = for_use(settings, weights, ones, {})
    layer = network.get_layer(LAYER)
    trunk = keras.Model(network.input, {"features": layer.input})
    pixels = data.train.pixels
    features = np.concatenate([predict(trunk, faces)["features"] for faces in (pixels, pixels[:, :, ::-1])])
    targets, rows = data.targets.probabilities["consensus"], data.targets.weights["consensus"]
    prior = settings.adjustment.refit * log_priors(data.targets)["consensus"]
    layer.set_weights(fit_layer(features, np.tile(targets, (2, 1)), np.tile(rows, 2), prior))
    return list(network.get_weights())


def fit_layer(
    features: NDArray[np.float32],
    targets: NDArray[np.float32],
    rows: NDArray[np.float32],
    prior: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel (width, 7) and bias (7,) of a layer of logits for `features` (n, width).

    The loss is the cross-entropy of the logits plus `prior` (7,) (balanced softmax, Ren et al. 2020) with
    `targets` (n, 7), whose rows have the weights `rows` (n,), and an L2 penalty; L-BFGS minimises it.
    """
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-3
    scaled = (features - mean) / scale
    sharp = targets.astype(np.float64) ** SHARPNESS
    sharp /= np.maximum(sharp.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    shares = (rows / rows.sum())[:, None]
    width, count = features.shape[1], targets.shape[1]

    def loss_and_gradient(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        kernel, bias = values[: width * count].reshape(width, count), values[width * count :]
        logs = log_softmax(scaled @ kernel + bias + prior, axis=1)
        error = (np.exp(logs) - sharp) * shares
        loss = -(sharp * logs * shares).sum() + PENALTY * (kernel**2).sum()
        gradient = scaled.T @ error + 2 * PENALTY * kernel
        return loss, np.concatenate([gradient.ravel(), error.sum(axis=0)])

    start = np.zeros(width * count + count)
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    kernel = found[: width * count].reshape(width, count) / scale[:, None]
    bias = found[width * count :] - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)
