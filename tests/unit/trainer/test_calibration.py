"""Temperatures and calibration errors whose answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.metrics import (
    TEMPERATURES,
    error_by_chance,
    expected_calibration_error,
    fit_temperature,
    fitting_half,
    reliability,
)

NAMES = [f"test/sad/PublicTest_{number:05d}.png" for number in range(28709, 32298)]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def calibrated(count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits (count, 7), and labels drawn with just the probabilities that they imply."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1.5, (count, 7))
    below = rng.random((count, 1)) > softmax(logits).cumsum(axis=1)
    return logits, np.minimum(below.sum(axis=1), 6)


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_temperature_recovers_the_scale(scale: float) -> None:
    logits, labels = calibrated(20_000)
    assert fit_temperature(logits * scale, labels) == pytest.approx(scale, rel=0.03)
    log_probabilities = np.log(softmax(logits * scale))
    assert fit_temperature(log_probabilities, labels) == pytest.approx(
        fit_temperature(logits * scale, labels), rel=1e-3
    )


def test_temperature_makes_mean_confidence_the_accuracy() -> None:
    # Confident of a third, which is always right, and unsure of the rest, which is right even less often. No
    # temperature fixes both, and minimal cross-entropy would leave the mean confidence too high.
    rng = np.random.default_rng(7)
    logits = np.concatenate([rows(0.9)] * 1000 + [rows(0.6)] * 2000)
    labels = np.where(np.arange(3000) < 1000, 0, rng.choice([0, 1], 3000, p=[0.4, 0.6]))
    logits = np.log(logits)
    found = softmax(logits.astype(np.float64) / fit_temperature(logits, labels))
    assert found.max(axis=1).mean() == pytest.approx((labels == 0).mean(), abs=1e-6)


@pytest.mark.parametrize(("label", "temperature"), [(0, TEMPERATURES[0]), (1, TEMPERATURES[1])])
def test_temperature_is_bounded_when_all_are_right_or_wrong(label: int, temperature: float) -> None:
    assert fit_temperature(np.log(rows(0.4, 0.6)), np.full(2, label)) == temperature


def test_calibrated_model_has_almost_no_error() -> None:
    logits, labels = calibrated(50_000)
    right = logits.argmax(axis=1) == labels
    assert expected_calibration_error(softmax(logits).max(axis=1), right) < 0.01
    assert expected_calibration_error(softmax(3 * logits).max(axis=1), right) > 0.1


def rows(*confidences: float) -> NDArray[np.float32]:
    """Probabilities that predict angry with these confidences."""
    return np.array([[c, *[(1 - c) / 6] * 6] for c in confidences], np.float32)


def test_ece_worked_out_by_hand() -> None:
    # Two bins: up to 0.5 one picture at 0.4, wrong; above it 0.8 right, 0.6 right, 0.7 wrong.
    confidence, right = np.array([0.4, 0.8, 0.6, 0.7]), np.array([False, True, True, False])
    expected = (1 * 0.4 + 3 * abs(2 / 3 - 0.7)) / 4
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(expected)
    low, high = reliability(confidence, right, bins=2)
    assert (low["pictures"], low["accuracy"], low["confidence"]) == (1, 0, pytest.approx(0.4))
    assert (high["above"], high["up_to"], high["pictures"]) == (0.5, 1, 3)


def test_edge_belongs_to_the_lower_bin() -> None:
    found = reliability(np.array([0.25, 0.5, 1.0000001]), np.ones(3, np.bool_), bins=4)
    assert [row["pictures"] for row in found] == [1, 1, 0, 1]
    assert found[2]["accuracy"] is None


def test_halves_are_even_and_the_same_in_any_selection() -> None:
    fitting = fitting_half(NAMES)
    assert 0.47 < fitting.mean() < 0.53
    assert (fitting_half(NAMES[100:7:-3]) == fitting[100:7:-3]).all()
    assert (fitting_half([name.replace("sad", "fear") for name in NAMES]) == fitting).all()


def test_half_is_that_of_the_shipped_temperatures() -> None:
    fitting = fitting_half(NAMES)
    assert "".join("FM"[not f] for f in fitting[:16]) == "MMMMMMFMMFMFMMMF"


def test_error_by_chance_is_that_of_a_calibrated_model() -> None:
    logits, _ = calibrated(1500)
    probabilities = softmax(logits)
    confidence = probabilities.max(axis=1)
    found = error_by_chance(confidence)
    rng = np.random.default_rng(11)
    errors = []
    for _ in range(200):
        labels = np.minimum((rng.random((1500, 1)) > probabilities.cumsum(axis=1)).sum(axis=1), 6)
        errors.append(expected_calibration_error(confidence, probabilities.argmax(axis=1) == labels))
    assert found["mean"] == pytest.approx(np.mean(errors), rel=0.05)
    assert np.mean(np.array(errors) < found["up_to"]) == pytest.approx(found["level"], abs=0.05)


def test_no_error_by_chance_with_certainty() -> None:
    assert error_by_chance(np.ones(3)) == {"mean": 0, "level": 0.95, "up_to": 0}
