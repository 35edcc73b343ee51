"""All that `evaluate` finds out, as one document."""

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.labels import EMOTIONS
from trainer.card import read_card
from trainer.data.faces import Faces
from trainer.scoring.metrics import (
    Judged,
    interval,
    judge,
    judged_figures,
    macro_f1,
    resample,
    top1,
    truths,
)
from trainer.scoring.network import check_outputs, open_model, predictions, size, speed
from trainer.scoring.plots import draw, draw_mistakes, listed, listed_worst, most_confident

TEST: Final = "McNemar, exact, two-sided"


def compare(this: Judged, other: Judged, resamples: int) -> dict[str, Any]:
    """How `this` differs from `other` on the same pictures and labels, as plain JSON, fractions of 1.

    Differences are this less other, with intervals of the bootstrap that draws each picture for both.
    """
    from scipy.stats import binomtest

    this_right, other_right = this.predicted == this.labels, other.predicted == other.labels
    only_this = int((this_right & ~other_right).sum())
    only_other = int((other_right & ~this_right).sum())
    differing = only_this + only_other
    return {
        "outputs": [this.output, other.output],
        "pictures": len(this.labels),
        "both_right": int((this_right & other_right).sum()),
        "only_this_right": only_this,
        "only_other_right": only_other,
        "neither_right": int((~this_right & ~other_right).sum()),
        "test": TEST,
        "p": float(binomtest(only_this, differing).pvalue) if differing else 1.0,
        **differences(joint_counts(this, other), resamples),
    }


def joint_counts(this: Judged, other: Judged) -> NDArray[np.int64]:
    """Pictures (7, 7, 7) by true emotion, what `this` says and what `other` says."""
    shape = (len(EMOTIONS),) * 3
    cells = np.ravel_multi_index((this.labels, this.predicted, other.predicted), shape)
    return np.bincount(cells, minlength=len(EMOTIONS) ** 3).reshape(shape)


def differences(joint: NDArray[np.int64], resamples: int) -> dict[str, Any]:
    """Top-1 and macro-F1 of both, and this less other with its interval, by `joint_counts`."""
    drawn = resample(joint, resamples)
    found = {}
    for name, figure in (("top1", top1), ("macro_f1", macro_f1)):
        found[name] = {
            "this": float(figure(joint.sum(axis=-1))),
            "other": float(figure(joint.sum(axis=-2))),
            "difference": float(figure(joint.sum(axis=-1)) - figure(joint.sum(axis=-2))),
            "interval": interval(figure(drawn.sum(axis=-1)) - figure(drawn.sum(axis=-2))),
        }
    return found


def evaluate(chosen: argparse.Namespace, faces: Faces, people: NDArray[np.int64] | None) -> dict[str, Any]:
    """The figures of the `chosen` model on `faces`, as plain JSON; draws them where that is chosen.

    `people` (n,) is what most people saw, -1 where unclear; None leaves that out.
    Raises UserError for a model that can't be used and a place that can't be written to.
    """
    # A temperature is fitted on a half of validation. What a selection was made for, its maker knows.
    halved = chosen.split == "validation" and chosen.pictures is None
    model, judged = judge_model(chosen.model, faces, people)
    scores = {
        name: judged_figures(one, faces.names, halved, chosen.bootstrap) for name, one in judged.items()
    }
    document = {
        **scores,
        "split": chosen.split,
        "data": {
            name: None if path is None else path.name
            for name, path in (
                ("faces", chosen.data),
                ("votes", chosen.votes),
                ("pictures", chosen.pictures),
            )
        },
        "model": size(model, chosen.model, read_card(chosen.model)),
        "speed": speed(model),
        "mistakes": {name: listed(one, faces, most_confident(one)) for name, one in judged.items()},
        "worst": {name: listed_worst(one, faces) for name, one in judged.items()},
    }
    if chosen.compare is not None:
        document["comparison"] = comparison(judged, chosen.compare, faces, people, chosen.bootstrap)
    if chosen.plots is not None:
        draw(scores, chosen.split, chosen.plots)
        for one in judged.values():
            draw_mistakes(one, faces, chosen.split, chosen.plots)
    return document


def judge_model(path: Path, faces: Faces, people: NDArray[np.int64] | None) -> tuple[Any, dict[str, Judged]]:
    """The model in the file `path`, and what it says of `faces` by set of labels. Raises UserError."""
    card = read_card(path)
    model = open_model(path)
    check_outputs(card, model, path)
    predicted = predictions(model, faces.pixels)
    return model, {name: judge(name, truth, predicted) for name, truth in truths(faces, people).items()}


def comparison(
    judged: dict[str, Judged], other: Path, faces: Faces, people: NDArray[np.int64] | None, resamples: int
) -> dict[str, Any]:
    """How the model `judged` differs from the one in the file `other`, by set of labels. Raises UserError."""
    model, others = judge_model(other, faces, people)
    found = {name: compare(one, others[name], resamples) for name, one in judged.items()}
    return {**found, "with": size(model, other, read_card(other))}
