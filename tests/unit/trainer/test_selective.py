"""Risk against coverage, and the threshold of confidence that follows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.metrics import risk_coverage, uncertain_below


def confident(confidences: list[float]) -> NDArray[np.float32]:
    """Probabilities (n, 7) that predict the first emotion with these confidences."""
    found = np.empty((len(confidences), 7), np.float32)
    found[:, 0] = confidences
    found[:, 1:] = (1 - found[:, :1]) / 6
    return found


def test_curve_counts_what_is_shown_and_what_is_wrong() -> None:
    labels = np.array([0, 1, 0, 0])
    curve = {p["threshold"]: p for p in risk_coverage(labels, confident([0.3, 0.46, 0.6, 0.9]))}
    assert len(curve) == 20
    assert curve[0.0] == {"threshold": 0.0, "coverage": 1.0, "risk": 0.25, "left_out_right": None}
    assert curve[0.4]["coverage"] == 0.75
    assert curve[0.4]["risk"] == pytest.approx(1 / 3)
    assert curve[0.5] == {"threshold": 0.5, "coverage": 0.5, "risk": 0.0, "left_out_right": 0.5}
    assert curve[0.95] == {"threshold": 0.95, "coverage": 0.0, "risk": None, "left_out_right": 0.75}


def test_threshold_leaves_out_what_is_more_often_wrong_than_right() -> None:
    confidences = [0.3] * 10 + [0.45] * 10 + [0.7] * 10
    labels = np.array([1] * 7 + [0] * 3 + [1] * 4 + [0] * 6 + [0] * 10)
    assert uncertain_below(labels, confident(confidences)) == 0.31


def test_calibrated_confidences_have_a_threshold_of_a_half() -> None:
    rng = np.random.default_rng(3)
    confidences = rng.uniform(0.2, 1.0, 200_000)
    labels = np.where(rng.random(len(confidences)) < confidences, 0, 1)
    assert uncertain_below(labels, confident(list(confidences))) == pytest.approx(0.5, abs=0.02)


def test_nothing_is_left_out_where_all_is_right() -> None:
    assert uncertain_below(np.zeros(3, np.int64), confident([0.2, 0.5, 0.9])) == 0.0
