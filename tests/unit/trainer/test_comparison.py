"""McNemar's test and the differences of two models, worked out by hand."""

import numpy as np
import pytest

from trainer.metrics import Predictions, compare


def predictions(*predicted: int, labels: list[int]) -> Predictions:
    probabilities = np.eye(7, dtype=np.float32)[list(predicted)]
    return Predictions("fer2013", "fer2013", np.arange(len(labels)), np.array(labels), probabilities)


def test_counts_and_p_worked_out_by_hand() -> None:
    # Eight pictures only this one has right, two only the other, five both, one neither.
    labels = [3] * 16
    this = predictions(*[3] * 8, *[0] * 2, *[3] * 5, 0, labels=labels)
    other = predictions(*[0] * 8, *[3] * 2, *[3] * 5, 4, labels=labels)
    found = compare(this, other, 500)
    names = ("only_this_right", "only_other_right", "both_right", "neither_right", "pictures")
    assert [found[name] for name in names] == [8, 2, 5, 1, 16]
    # Twice the chance of at most 2 heads in 10 throws: 2 (1 + 10 + 45) / 1024.
    assert found["p"] == pytest.approx(0.109375)
    assert found["top1"]["this"] == pytest.approx(13 / 16)
    assert found["top1"]["other"] == pytest.approx(7 / 16)
    assert found["top1"]["difference"] == pytest.approx(6 / 16)
    low, high = found["top1"]["interval"]
    assert low < 6 / 16 < high
    back = compare(other, this, 500)
    assert back["p"] == found["p"]
    assert back["macro_f1"]["difference"] == pytest.approx(-found["macro_f1"]["difference"])


def test_interval_is_of_pairs() -> None:
    # Two models that err on the same pictures differ by nothing, however far each of them would spread.
    labels = [0, 1, 2, 3] * 10
    one = predictions(*[0, 1, 5, 5] * 10, labels=labels)
    found = compare(one, one, 200)
    assert found["p"] == 1
    assert found["top1"]["interval"] == [0, 0]
    assert found["macro_f1"] == {"this": 0.5, "other": 0.5, "difference": 0, "interval": [0, 0]}
