"""The figures of a model: its predictions against the labels, and how far figures would move by chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.common.labels import EMOTIONS
from trainer.data.faces import Faces
from trainer.scoring.calibration import error_by_chance, expected_calibration_error, halves, reliability
from trainer.scoring.network import predictions


def figures(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Figures of `probabilities` (n, 7) against `labels` (n,), n at least 1, as plain JSON, fractions of 1.

    `per_class` has precision, recall, F1 and the number of pictures of each emotion; what is not defined
    (the precision of an emotion never predicted, the recall of one that isn't there) counts as 0. `macro_f1`
    is the mean over the emotions that the labels hold. `confusion` counts pictures, with a row for each true
    emotion and a column for each predicted one.
    """
    predicted = probabilities.argmax(axis=1)
    every = list(range(len(EMOTIONS)))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=every, average=None, zero_division=0
    )
    return {
        "top1": float((predicted == labels).mean()),
        "macro_f1": float(f1[support > 0].mean()),
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
        "confusion": confusion_matrix(labels, predicted, labels=every).tolist(),
    }


LEVEL: Final = 0.95
RESAMPLES: Final = 2000
SEED: Final = 2013
"""Fixed, so that the same predictions have the same intervals."""

MEASURING_HALF: Final = "the half of validation that no temperature is fitted on"
ALL_PICTURES: Final = "all pictures"


@dataclass(frozen=True)
class Judged:
    """What a model says of the pictures that a set of labels has a truth for.

    `output` is the model's that was used; `chosen` (m,) are indices of the pictures into those scored,
    `labels` (m,) int64 the truth, `probabilities` (m, 7) float32.
    """

    label_set: str
    output: str
    chosen: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable emotion (m,) as an index into EMOTIONS."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)


def truths(faces: Faces, people: NDArray[np.int64] | None) -> dict[str, NDArray[np.int64]]:
    """Labels (n,) by set: FER2013's own and, if there are any, what most `people` saw, -1 where unclear."""
    return {"fer2013": faces.labels} | ({} if people is None else {"consensus": people})


def judge(label_set: str, truth: NDArray[np.int64], predicted: Mapping[str, NDArray[np.float32]]) -> Judged:
    """`predicted`, (n, 7) by output, beside the `truth` (n,), -1 for a picture that has none.

    The output that bears the label set's name is judged; of a model without it, its only one.
    """
    output = label_set if label_set in predicted else next(iter(predicted))
    chosen = np.flatnonzero(truth >= 0)
    return Judged(label_set, output, chosen, truth[chosen], predicted[output][chosen])


def judged_figures(
    judged: Judged, names: Sequence[str], halved: bool, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """The figures of one set of labels as plain JSON, fractions of 1, for at least one picture.

    `names` are those of all scored pictures. With `halved` the calibration error is of the pictures on which
    no temperature is fitted, else of all; `ece_all` is always of all.
    """
    measured = np.ones(len(judged.labels), np.bool_)
    if halved:
        _, measured = halves([names[index] for index in judged.chosen])
    labels, found = judged.labels[measured], judged.probabilities[measured]
    plain = figures(judged.labels, judged.probabilities)
    return {
        "top1": plain["top1"],
        "macro_f1": plain["macro_f1"],
        # A handful of pictures may lie all in the other half: nothing was measured then.
        "ece": expected_calibration_error(labels, found) if len(labels) else None,
        "ece_by_chance": error_by_chance(found) if len(labels) else None,
        "ece_of": MEASURING_HALF if halved else ALL_PICTURES,
        "ece_pictures": len(labels),
        "ece_all": expected_calibration_error(judged.labels, judged.probabilities),
        "output": judged.output,
        "intervals": intervals(np.array(plain["confusion"]), resamples),
        **{key: plain[key] for key in ("pictures", "per_class", "confusion")},
        "reliability": reliability(labels, found),
    }


def score(model: Any, faces: Faces, people: NDArray[np.int64] | None = None) -> dict[str, dict[str, Any]]:
    """The figures of `model` on `faces`, of validation, by set of labels, as `judged_figures` has them.

    `people` (n,) is what most people saw in each picture, -1 where that is unclear; None leaves it out.
    """
    predicted = predictions(model, faces.pixels)
    return {
        label_set: judged_figures(judge(label_set, truth, predicted), faces.names, halved=True)
        for label_set, truth in truths(faces, people).items()
    }


def resample(counts: NDArray[np.int64], resamples: int) -> NDArray[np.int64]:
    """Counts (resamples, …) of as many pictures, drawn with replacement from those of `counts` (…)."""
    total = counts.sum()
    drawn = np.random.default_rng(SEED).multinomial(total, counts.ravel() / total, size=resamples)
    return drawn.reshape(resamples, *counts.shape)


def top1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Top-1 (…) of confusion matrices (…, 7, 7), a row for each true emotion."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(right / confusion.sum(axis=(-2, -1)), np.float64)


def macro_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean F1 (…) over the emotions that are there, of confusion matrices (…, 7, 7)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    there, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    f1 = 2 * right / np.maximum(there + predicted, 1)
    return np.asarray(f1.sum(axis=-1, where=there > 0) / (there > 0).sum(axis=-1), np.float64)


def interval(values: NDArray[np.float64]) -> list[float]:
    """Lower and upper end of what LEVEL of the `values` (resamples,) lie between."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def intervals(confusion: NDArray[np.int64], resamples: int) -> dict[str, Any]:
    """Intervals of top-1 and macro-F1 by the confusion matrix (7, 7), as plain JSON, fractions of 1."""
    drawn = resample(confusion, resamples)
    return {
        "level": LEVEL,
        "resamples": resamples,
        "top1": interval(top1(drawn)),
        "macro_f1": interval(macro_f1(drawn)),
    }
