"""A last layer that is fitted again: its mean answers, rare emotions, and rows without weight."""

import numpy as np
import pytest
from scipy.special import softmax

from trainer.artifacts import fit_layer

RNG = np.random.default_rng(3)
LABELS = RNG.choice(7, 4000, p=[0.4, 0.02, 0.08, 0.2, 0.1, 0.1, 0.1])
TARGETS = np.eye(7, dtype=np.float32)[LABELS]
FEATURES = (5 + 2 * TARGETS[:, :5] + RNG.normal(size=(4000, 5))).astype(np.float32)
EVENLY = np.ones(4000, np.float32)
LOG_SHARES = np.log(TARGETS.mean(axis=0))


def answers(prior: np.ndarray, rows: np.ndarray = EVENLY) -> np.ndarray:
    kernel, bias = fit_layer(FEATURES, TARGETS, rows, prior)
    assert kernel.shape == (5, 7) and bias.shape == (7,)
    return np.asarray(softmax(FEATURES @ kernel + bias, axis=1))


def test_mean_probabilities_are_the_shares_of_the_targets() -> None:
    assert answers(np.zeros(7)).mean(axis=0) == pytest.approx(TARGETS.mean(axis=0), abs=0.01)


def test_balanced_layer_finds_more_of_the_rare_emotion() -> None:
    rare = LABELS == 1
    plain, balanced = (answers(share * LOG_SHARES).argmax(axis=1) for share in (0.0, 1.0))
    assert (balanced[rare] == 1).mean() > (plain[rare] == 1).mean() + 0.2


def test_rows_of_weight_0_do_not_count() -> None:
    rows = np.where(LABELS == 3, 0, EVENLY).astype(np.float32)
    assert answers(np.zeros(7), rows)[:, 3].max() < 0.05
