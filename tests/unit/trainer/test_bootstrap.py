"""Bootstrap intervals, compared with theory."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from pipeline.common.labels import EMOTIONS
from trainer.metrics import classification_metrics, intervals, macro_f1, resample


def test_metrics_of_counts_equal_scikit_learns_of_pictures() -> None:
    rng = np.random.default_rng(3)
    labels, predicted = rng.integers(0, 6, 200), rng.integers(0, 7, 200)
    found = classification_metrics(labels, predicted)
    there = list(range(6))  # the last emotion has no picture
    assert found["top1"] == pytest.approx((predicted == labels).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, labels=there, average="macro"))
    recall = recall_score(labels, predicted, labels=there, average="macro")
    assert found["mean_recall"] == pytest.approx(recall)
    confusion = np.array(found["confusion"])
    assert macro_f1(np.stack([confusion, np.eye(7, dtype=np.int64)]))[1] == 1


def test_resamples_keep_the_number_of_pictures_and_are_repeatable() -> None:
    counts = np.arange(49).reshape(7, 7)
    drawn = resample(counts, 20)
    assert (drawn.sum(axis=(1, 2)) == counts.sum()).all()
    assert (drawn == resample(counts, 20)).all()
    assert drawn[:, 0, 0].max() == 0, "what was never seen is never drawn"


def test_interval_of_a_share_is_the_normal_one() -> None:
    confusion = np.zeros((7, 7), np.int64)
    confusion[3, 3], confusion[3, 0] = 700, 300
    found = intervals(confusion, 4000)
    reach = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert found["top1"] == pytest.approx([0.7 - reach, 0.7 + reach], abs=0.004)
    assert (found["level"], found["resamples"]) == (0.95, 4000)
    assert found["macro_f1"][0] < macro_f1(confusion) < found["macro_f1"][1]


def test_interval_of_a_perfect_model_is_a_point() -> None:
    found = intervals(np.eye(len(EMOTIONS), dtype=np.int64) * 50, 100)
    assert found["top1"] == found["macro_f1"] == [1, 1]
