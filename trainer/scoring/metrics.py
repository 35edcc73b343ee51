"""The figures of a set of predictions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.emotions import EMOTIONS


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
