"""Which output is judged by which labels, on which pictures, and which of them measure calibration."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.scoring.calibration import expected_calibration_error, halves
from trainer.scoring.metrics import Judged, judge, judged_figures

NAMES = [f"test/sad/PublicTest_{number:05d}.png" for number in range(60)]


def says(labels: NDArray[np.int64], confidence: float) -> NDArray[np.float32]:
    """Probabilities (n, 7) that say `labels` (n,) with this confidence."""
    found = np.full((len(labels), 7), (1 - confidence) / 6, np.float32)
    found[np.arange(len(labels)), labels] = confidence
    return found


def test_a_label_set_is_judged_by_its_own_output() -> None:
    truth = np.array([3, -1, 0])
    outputs = {"fer2013": says(np.array([1, 1, 1]), 0.9), "consensus": says(np.array([3, 2, 2]), 0.9)}
    found = judge("consensus", truth, outputs)
    assert found.output == "consensus"
    assert found.chosen.tolist() == [0, 2], "pictures without a truth are left out"
    assert found.labels.tolist() == [3, 0]
    assert found.predicted.tolist() == [3, 2]


@pytest.mark.parametrize("only", ["fer2013", "consensus"])
def test_a_model_s_only_output_is_judged_by_both(only: str) -> None:
    outputs = {only: says(np.array([1]), 0.9)}
    assert {judge(name, np.array([1]), outputs).output for name in ("fer2013", "consensus")} == {only}


def test_calibration_is_measured_where_no_temperature_was_fitted() -> None:
    fitting, measuring = halves(NAMES)
    labels = np.zeros(len(NAMES), np.int64)
    # Right throughout where a temperature is fitted, and just as sure but wrong on the other half.
    probabilities = says(np.where(fitting, 0, 1), 0.95)
    judged = Judged("fer2013", "fer2013", np.arange(len(NAMES)), labels, probabilities)
    found = judged_figures(judged, NAMES, halved=True)
    assert found["ece"] == pytest.approx(0.95)
    assert found["ece_pictures"] == measuring.sum() == sum(row["pictures"] for row in found["reliability"])
    assert found["ece_all"] == pytest.approx(expected_calibration_error(labels, probabilities))
    assert found["top1"] == pytest.approx(fitting.mean()), "of all pictures"
    overall = judged_figures(judged, NAMES, halved=False)
    assert overall["ece"] == overall["ece_all"] == found["ece_all"]
    assert overall["ece_of"] == "all pictures"


def test_the_half_is_that_of_the_pictures_own_names() -> None:
    fitting, _ = halves(NAMES)
    chosen = np.flatnonzero(fitting)
    labels = np.zeros(len(chosen), np.int64)
    judged = Judged("consensus", "consensus", chosen, labels, says(labels, 0.9))
    found = judged_figures(judged, NAMES, halved=True)
    assert (found["ece"], found["ece_by_chance"], found["ece_pictures"]) == (None, None, 0)
    assert found["ece_all"] == pytest.approx(0.1)
