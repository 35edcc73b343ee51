"""Which output is scored by which labels, on which pictures, and which of them measure calibration."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.metrics import Predictions, expected_calibration_error, fitting_half, score, with_labels

NAMES = [f"test/sad/PublicTest_{number:05d}.png" for number in range(60)]


def confident(labels: NDArray[np.int64], confidence: float) -> NDArray[np.float32]:
    """Probabilities (n, 7) that predict `labels` (n,) with this confidence."""
    found = np.full((len(labels), 7), (1 - confidence) / 6, np.float32)
    found[np.arange(len(labels)), labels] = confidence
    return found


def test_label_set_is_scored_by_its_own_output() -> None:
    labels = np.array([3, -1, 0])
    outputs = {
        "fer2013": confident(np.array([1, 1, 1]), 0.9),
        "consensus": confident(np.array([3, 2, 2]), 0.9),
    }
    found = with_labels("consensus", labels, outputs)
    assert found.output == "consensus"
    assert found.indices.tolist() == [0, 2], "pictures without a label are left out"
    assert found.labels.tolist() == [3, 0]
    assert found.predicted.tolist() == [3, 2]


@pytest.mark.parametrize("only", ["fer2013", "consensus"])
def test_only_output_is_scored_by_both_label_sets(only: str) -> None:
    outputs = {only: confident(np.array([1]), 0.9)}
    assert {with_labels(name, np.array([1]), outputs).output for name in ("fer2013", "consensus")} == {only}


def test_ece_is_of_the_half_without_fitted_temperature() -> None:
    fitting = fitting_half(NAMES)
    labels = np.zeros(len(NAMES), np.int64)
    # Right throughout where a temperature is fitted, and just as sure but wrong on the other half.
    probabilities = confident(np.where(fitting, 0, 1), 0.95)
    predictions = Predictions("fer2013", "fer2013", np.arange(len(NAMES)), labels, probabilities)
    found = score(predictions, NAMES, halved=True)
    assert found["ece"] == pytest.approx(0.95)
    assert found["ece_pictures"] == (~fitting).sum() == sum(row["pictures"] for row in found["reliability"])
    assert found["ece_all"] == pytest.approx(
        expected_calibration_error(predictions.confidence, predictions.right)
    )
    assert found["top1"] == pytest.approx(fitting.mean()), "of all pictures"
    overall = score(predictions, NAMES, halved=False)
    assert overall["ece"] == overall["ece_all"] == found["ece_all"]
    assert overall["ece_of"] == "all pictures"


def test_half_follows_from_the_names_of_the_scored_pictures() -> None:
    fitting = fitting_half(NAMES)
    indices = np.flatnonzero(fitting)
    labels = np.zeros(len(indices), np.int64)
    predictions = Predictions("consensus", "consensus", indices, labels, confident(labels, 0.9))
    found = score(predictions, NAMES, halved=True)
    assert (found["ece"], found["ece_by_chance"], found["ece_pictures"]) == (None, None, 0)
    assert found["ece_all"] == pytest.approx(0.1)
