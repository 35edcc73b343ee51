"""The command `evaluate`: the figures of a model on a part of the data."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.files import make_folder, write_json
from trainer.card import read_card
from trainer.data.faces import Faces, load_for_scoring
from trainer.data.votes import majority, read_votes
from trainer.scoring.report import show


def evaluate_command(chosen: argparse.Namespace) -> None:
    """Run `evaluate` as `chosen`. Raises UserError for a model or data that can't be used."""
    for model in (chosen.model, chosen.compare):
        if model is not None:
            read_card(model)
    wanted = None if chosen.pictures is None else read_names(chosen.pictures)
    faces = load_for_scoring(chosen.data, chosen.split, wanted)
    people = None if chosen.votes is None else read_people(chosen.votes, chosen.data, faces)
    for folder in (chosen.plots, chosen.json and chosen.json.parent):
        if folder is not None:
            make_folder(folder)
    # scikit-learn takes a second to load, which a mistyped path should not cost.
    from trainer.scoring.evaluation import evaluate

    document = evaluate(chosen, faces, people)
    show(document, f"{chosen.model}, {chosen.split} part of {chosen.data}", str(chosen.compare))
    if chosen.json is not None:
        write_json(chosen.json, document)


def read_names(path: Path) -> list[str]:
    """Names of pictures, one a line; empty lines don't count. Raises UserError if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); expected names of pictures, one a line"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path}: expected names of pictures, one a line, found none")
    return names


def read_people(votes: Path, data: Path, faces: Faces) -> NDArray[np.int64]:
    """What most people saw in `faces`, (n,) as an index into EMOTIONS, -1 where unclear. Raises UserError."""
    people = majority(read_votes(votes, data, faces.names))
    if not (people >= 0).any():
        raise UserError(
            f"{votes}: expected a majority for at least one of the {len(faces)} pictures, found none; "
            "score more pictures, or leave --votes out"
        )
    return people
