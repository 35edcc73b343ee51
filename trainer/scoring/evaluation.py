"""All that `evaluate` finds out, as one document."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.card import read_card
from trainer.data.faces import Faces
from trainer.scoring.compare import compare
from trainer.scoring.drawing import draw, draw_mistakes
from trainer.scoring.judging import Judged, judge, judged_figures, truths
from trainer.scoring.loading import check_outputs, open_model
from trainer.scoring.mistakes import listed, listed_worst, most_confident
from trainer.scoring.predict import predictions
from trainer.scoring.speed import size, speed


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
