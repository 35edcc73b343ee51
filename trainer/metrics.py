"""Metrics of predictions against labels: accuracy, calibration, risk by coverage, and two models compared.

Calibration: Guo et al., ICML 2017 (arXiv:1706.04599), with the temperature fitted as Clarté et al., UAI 2023
(arXiv:2303.02644). Risk by coverage: El-Yaniv and Wiener, JMLR 11 (2010).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.common.labels import EMOTIONS
from trainer.dataset import Faces
from trainer.model_file import predict

LEVEL: Final = 0.95
RESAMPLES: Final = 2000
SEED: Final = 2013
"""For the bootstrap. Fixed, so that the same predictions have the same intervals."""

MEASURING_HALF: Final = "the half of validation that no temperature is fitted on"
ALL_PICTURES: Final = "all pictures"
HALVES_SEED: Final = 2013
"""Decides on which half of validation temperatures are fitted. Fixed, independent of a training's seed."""
BINS: Final = 15
"""Bins of equal width, as in the paper."""
DRAWS: Final = 1000
"""Of right and wrong answers by chance."""
TEMPERATURES: Final = (0.05, 20.0)
"""Bounds of a temperature, far beyond what networks need."""
STEPS: Final = 100
"""Thresholds tried lie between 0 and 1, this many steps apart; the curve has every fifth of them."""


@dataclass(frozen=True)
class Predictions:
    """Predictions, by the model's `output`, for the pictures that have a label in a label set.

    `indices` (m,) of the pictures among those scored; `labels` (m,) int64; `probabilities` (m, 7) float32.
    """

    label_set: str
    output: str
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable emotion (m,) as an index into EMOTIONS."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether it is the label (m,)."""
        return np.asarray(self.predicted == self.labels)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Its probability (m,)."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)


def predict_by_label_set(
    model: Any, faces: Faces, consensus: NDArray[np.int64] | None, output: str | None = None
) -> dict[str, Predictions]:
    """Return the predictions of `model` for `faces` by label set.

    `consensus` (n,) is the majority of people's votes, -1 where there is none; None leaves that set out.
    `output` of the model is used for every label set; None: that of the set's name.
    """
    predicted = predict(model, faces.pixels)
    if output is not None:
        predicted = {output: predicted[output]}
    sets = label_sets(faces, consensus)
    return {name: with_labels(name, labels, predicted) for name, labels in sets.items()}


def label_sets(faces: Faces, consensus: NDArray[np.int64] | None) -> dict[str, NDArray[np.int64]]:
    """Return labels (n,) by label set: FER2013's own and, if any picture has one, the votes' majority."""
    if consensus is None or not (consensus >= 0).any():
        return {"fer2013": faces.labels}
    return {"fer2013": faces.labels, "consensus": consensus}


def with_labels(
    label_set: str, labels: NDArray[np.int64], predicted: Mapping[str, NDArray[np.float32]]
) -> Predictions:
    """Return those of `predicted`, (n, 7) by output, whose picture has a label: not -1 in `labels` (n,).

    The output named like the label set is used; of a model without it, the only one.
    """
    output = label_set if label_set in predicted else next(iter(predicted))
    indices = np.flatnonzero(labels >= 0)
    return Predictions(label_set, output, indices, labels[indices], predicted[output][indices])


def score(
    predictions: Predictions, names: Sequence[str], halved: bool, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Return all metrics as plain JSON, fractions of 1, for at least one picture.

    `names` are those of all scored pictures. With `halved`, `ece` is of the pictures on which no temperature
    was fitted, else of all; `ece_all` is always of all.
    """
    confidence, right = predictions.confidence, predictions.right
    measured = np.ones(len(right), np.bool_)
    if halved:
        measured = ~fitting_half([names[index] for index in predictions.indices])
    metrics = classification_metrics(predictions.labels, predictions.predicted)
    some = bool(measured.any())  # a handful of pictures may all be in the other half
    return {
        **metrics,
        "ece": expected_calibration_error(confidence[measured], right[measured]) if some else None,
        "ece_by_chance": error_by_chance(confidence[measured]) if some else None,
        "ece_of": MEASURING_HALF if halved else ALL_PICTURES,
        "ece_pictures": int(measured.sum()),
        "ece_all": expected_calibration_error(confidence, right),
        "output": predictions.output,
        "confidence": {"right": mean(confidence[right]), "wrong": mean(confidence[~right])},
        "intervals": intervals(np.array(metrics["confusion"]), resamples),
        "reliability": reliability(confidence[measured], right[measured]),
        "uncertain_below": uncertain_below(confidence, right),
        "risk_coverage": risk_coverage(confidence, right),
    }


def mean(values: NDArray[Any]) -> float | None:
    """Return the mean of `values`; None without any."""
    return float(values.mean()) if len(values) else None


def classification_metrics(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Return metrics of the `predicted` emotions (n,) against `labels` (n,), n at least 1, as plain JSON.

    Undefined ones (precision of an emotion never predicted, recall of one without pictures) count as 0.
    `confusion` counts pictures: a row for each true emotion, a column for each predicted one.
    """
    every = list(range(len(EMOTIONS)))
    neutral = EMOTIONS.index("neutral")
    called = predicted == neutral
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=every, average=None, zero_division=0
    )
    confusion = confusion_matrix(labels, predicted, labels=every)
    return {
        **{name: float(metric(confusion)) for name, metric in METRICS.items()},
        "neutral": {
            "true": mean(labels == neutral),
            "called": mean(called),
            "of_mistakes": mean(called[predicted != labels]),
        },
        "pictures": len(labels),
        "per_class": {
            emotion: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "pictures": int(support[index]),
            }
            for index, emotion in enumerate(EMOTIONS)
        },
        "confusion": confusion.tolist(),
    }


def intervals(confusion: NDArray[np.int64], resamples: int) -> dict[str, Any]:
    """Return intervals of METRICS for a confusion matrix (7, 7), as plain JSON."""
    drawn = resample(confusion, resamples)
    found = {name: interval(metric(drawn)) for name, metric in METRICS.items()}
    return {"level": LEVEL, "resamples": resamples, **found}


def resample(counts: NDArray[np.int64], resamples: int) -> NDArray[np.int64]:
    """Return counts (resamples, …) of as many pictures, drawn with replacement from those of `counts` (…)."""
    total = counts.sum()
    drawn = np.random.default_rng(SEED).multinomial(total, counts.ravel() / total, size=resamples)
    return drawn.reshape(resamples, *counts.shape)


def top1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return top-1 (…) of confusion matrices (…, 7, 7), a row for each true emotion."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(right / confusion.sum(axis=(-2, -1)), np.float64)


def macro_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean F1 (…) over the emotions with pictures, of confusion matrices (…, 7, 7)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    return np.asarray(f1.sum(axis=-1, where=support > 0) / (support > 0).sum(axis=-1), np.float64)


def mean_recall(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean recall (…), balanced accuracy, likewise."""
    right, support = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    recall = right / np.maximum(support, 1)
    return np.asarray(recall.sum(axis=-1, where=support > 0) / (support > 0).sum(axis=-1), np.float64)


METRICS: Final = {"top1": top1, "macro_f1": macro_f1, "mean_recall": mean_recall}


def interval(values: NDArray[np.float64]) -> list[float]:
    """Return the lower and upper end of the central LEVEL of the `values` (resamples,)."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def compare(this: Predictions, other: Predictions, resamples: int) -> dict[str, Any]:
    """Return how `this` differs from `other` on the same pictures and labels, as plain JSON.

    `p` is McNemar's; differences are this less other, with intervals of the paired bootstrap.
    """
    shape = (len(EMOTIONS),) * 3
    cells = np.ravel_multi_index((this.labels, this.predicted, other.predicted), shape)
    # Pictures by label, prediction of this and prediction of the other.
    joint = np.bincount(cells, minlength=len(EMOTIONS) ** 3).reshape(shape)
    drawn = resample(joint, resamples)
    differences = {}
    for name, metric in METRICS.items():
        of_this, of_other = metric(joint.sum(axis=-1)), metric(joint.sum(axis=-2))
        differences[name] = {
            "this": float(of_this),
            "other": float(of_other),
            "difference": float(of_this - of_other),
            "interval": interval(metric(drawn.sum(axis=-1)) - metric(drawn.sum(axis=-2))),
        }
    only_this = int((this.right & ~other.right).sum())
    only_other = int((other.right & ~this.right).sum())
    differing = only_this + only_other
    return {
        "outputs": [this.output, other.output],
        "pictures": len(this.labels),
        "both_right": int((this.right & other.right).sum()),
        "only_this_right": only_this,
        "only_other_right": only_other,
        "neither_right": int((~this.right & ~other.right).sum()),
        "test": "McNemar, exact, two-sided",
        "p": float(binomtest(only_this, differing).pvalue) if differing else 1.0,
        **differences,
    }


def fitting_half(names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which (n,) of the pictures `names` temperatures are fitted on; ECE is measured on the others.

    A picture's half follows from its file name alone, so that it is the same in any selection of pictures.
    """
    keys = (f"{HALVES_SEED} {PurePosixPath(name).name}" for name in names)
    return np.array([hashlib.sha256(key.encode()).digest()[0] % 2 == 0 for key in keys], np.bool_)


def fit_temperature(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.int64], below: float = 0.0
) -> float:
    """Return the T at which the mean confidence of softmax(logits / T) is the accuracy less `below`.

    Minimising cross-entropy, which is more common, weighs all seven probabilities and the surest pictures
    most; the pipeline shows the confidence in one emotion. `logits` (n, 7) may be log-probabilities.
    """
    scores = np.asarray(logits, np.float64)
    accuracy = (scores.argmax(axis=1) == labels).mean() - below

    def overconfidence(log_temperature: float) -> float:
        confidence = softmax(scores / np.exp(log_temperature), axis=1).max(axis=1)
        return float(confidence.mean() - accuracy)

    # It falls as the temperature rises, and has no root for a few pictures that are all right or all wrong.
    lowest, highest = np.log(TEMPERATURES)
    if overconfidence(lowest) <= 0:
        return TEMPERATURES[0]
    if overconfidence(highest) >= 0:
        return TEMPERATURES[1]
    return float(np.exp(brentq(overconfidence, lowest, highest)))


def reliability(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> list[dict[str, Any]]:
    """Return the bins of a reliability diagram, lowest confidence first, as plain JSON.

    Each has its limits, its number of `pictures`, and, where there are any, their mean `confidence` and
    `accuracy`, the share that is `right`; both arguments (n,).
    """
    place, edges = _binned(confidence, bins), np.linspace(0, 1, bins + 1)
    return [
        {
            "above": float(edges[index]),
            "up_to": float(edges[index + 1]),
            "pictures": int((place == index).sum()),
            "confidence": mean(confidence[place == index]),
            "accuracy": mean(right[place == index]),
        }
        for index in range(bins)
    ]


def expected_calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return the ECE: the mean over pictures of the gap between accuracy and confidence in their bin.

    `confidence` and `right` (n,), n at least 1; a fraction of 1.
    """
    filled = [row for row in reliability(confidence, right, bins) if row["pictures"]]
    gaps = sum(row["pictures"] * abs(row["accuracy"] - row["confidence"]) for row in filled)
    return float(gaps / len(right))


def error_by_chance(confidence: NDArray[np.float64]) -> dict[str, float]:
    """Return the ECE of a perfectly calibrated model: above 0, since a bin has few pictures.

    Each picture is drawn as right with its `confidence` (n,), n at least 1, as its chance, with a fixed seed
    (consistency resampling: Bröcker and Smith, Increasing the Reliability of Reliability Diagrams, 2007).
    Returns the `mean` of all draws and the `level` quantile `up_to`, fractions of 1.
    """
    place = _binned(confidence, BINS)
    drawn = np.random.default_rng(0).random((DRAWS, len(confidence))) < confidence
    errors = np.abs((drawn - confidence) @ np.eye(BINS)[place]).sum(axis=1) / len(confidence)
    return {"mean": float(errors.mean()), "level": LEVEL, "up_to": float(np.quantile(errors, LEVEL))}


def _binned(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the bin (n,) of each picture, by its confidence."""
    # A float32 probability may exceed 1 by a rounding error, so only the inner edges decide.
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def risk_coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return the curve of pictures with `confidence` (n,), `right` (n,) or not, a point a threshold, as JSON.

    `coverage` is the share of pictures with at least that confidence, `risk` the share of those that is
    wrong, `left_out_right` the share of the others that is right; None without pictures.
    """
    curve = []
    for step in range(0, STEPS, 5):
        shown = confidence >= step / STEPS
        point = {"threshold": step / STEPS, "coverage": mean(shown), "risk": mean(~right[shown])}
        curve.append({**point, "left_out_right": mean(right[~shown])})
    return curve


def uncertain_below(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the confidence below which "uncertain" is the better answer.

    That is Chow's rule (1970) where a right answer counts 1, a wrong one -1 and none 0: of all thresholds, in
    hundredths, the least one with the highest sum. Of calibrated confidences it would be 0.5.
    """
    thresholds = np.arange(STEPS) / STEPS
    shown = confidence >= thresholds[:, None]
    return float(thresholds[int((shown * np.where(right, 1, -1)).sum(axis=1).argmax())])
