"""Risk against coverage, and the threshold of confidence that follows."""

import numpy as np
import pytest

from trainer.metrics import risk_coverage, uncertain_below


def test_curve_counts_what_is_shown_and_what_is_wrong() -> None:
    right = np.array([True, False, True, True])
    curve = {p["threshold"]: p for p in risk_coverage(np.array([0.3, 0.46, 0.6, 0.9]), right)}
    assert len(curve) == 20
    assert curve[0.0] == {"threshold": 0.0, "coverage": 1.0, "risk": 0.25, "left_out_right": None}
    assert curve[0.4]["coverage"] == 0.75
    assert curve[0.4]["risk"] == pytest.approx(1 / 3)
    assert curve[0.5] == {"threshold": 0.5, "coverage": 0.5, "risk": 0.0, "left_out_right": 0.5}
    assert curve[0.95] == {"threshold": 0.95, "coverage": 0.0, "risk": None, "left_out_right": 0.75}


def test_threshold_leaves_out_what_is_more_often_wrong_than_right() -> None:
    confidence = np.array([0.3] * 10 + [0.45] * 10 + [0.7] * 10)
    right = np.array([False] * 7 + [True] * 3 + [False] * 4 + [True] * 16)
    assert uncertain_below(confidence, right) == 0.31


def test_calibrated_confidences_have_a_threshold_of_a_half() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.2, 1.0, 200_000)
    right = rng.random(len(confidence)) < confidence
    assert uncertain_below(confidence, right) == pytest.approx(0.5, abs=0.02)


def test_nothing_is_left_out_where_all_is_right() -> None:
    assert uncertain_below(np.array([0.2, 0.5, 0.9]), np.ones(3, np.bool_)) == 0.0
