"""What an emotion classifier is, and the one that the settings ask for."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.model_card import Card, choose_labels, find_model, read_model
from stages.classify.spec import ClassifySettings
from stages.faces import PROBABILITIES, check_probabilities

RUNTIMES: Final = {
    ".onnx": ("stages.classify.onnx_classifier", "OnnxClassifier"),
    ".keras": ("stages.classify.keras_classifier", "KerasClassifier"),
}
"""Module and class of the classifier, by the ending of the model file; imported when it is chosen."""


class Classifier(Protocol):
    """An emotion model, loaded and warm."""

    @property
    def fingerprint(self) -> str:
        """Model, file and labels as text: the workers of a run must agree on it."""

    @property
    def crop_shape(self) -> tuple[int, ...]:
        """The shape of a crop, by the model's card: (48, 48) grey, or (size, size, 3) RGB."""

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, 7), in the order of EMOTIONS, of crops (n, *crop_shape), n at least 1."""


def open_classifier(settings: ClassifySettings, expected: str = "") -> Classifier:
    """Load the model that `settings.model` names and run it once.

    `settings.labels` chooses the output. expected: the file's sha256 when the run began, "" to accept any.
    Raises UserError if the model is missing, broken, not that file, without those labels, not what its card
    says, or not a model from faces to emotions.
    """
    path = find_model(settings.model)
    card, data = read_model(path)
    found = card.sha256_of(path)
    if expected and found != expected:
        raise UserError(
            f"{path}: another model than when the run began: sha256 {expected[:12]}… expected, "
            f"{found[:12]}… found; put the file back, or start the run again"
        )
    labels = choose_labels(card, settings.labels, path)
    fingerprint = f"{card.name or path.name} {found[:16]} {labels}"
    classifier = _load(path, data, card, labels, settings.threads, fingerprint)
    black = np.zeros((1, *card.crop_shape), np.uint8)
    if wrong := check_probabilities({PROBABILITIES.name: classifier(black)}):
        # The broker would refuse every result.
        raise UserError(f"{path}: it gives {wrong}; let the model end with a softmax")
    return classifier


def _load(path: Path, data: bytes, card: Card, labels: str, threads: int, fingerprint: str) -> Classifier:
    """Import the file's runtime and load the model with it."""
    if path.suffix not in RUNTIMES:
        raise UserError(f"classify.model: {path}: expected a file that ends in {' or '.join(RUNTIMES)}")
    module, name = RUNTIMES[path.suffix]
    opener: Callable[..., Classifier] = getattr(import_module(module), name)
    return opener(path, data, card, labels, threads, fingerprint)
