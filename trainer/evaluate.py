"""The command `evaluate`: score a model on one part of the data and report it as text, JSON and plots."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.common.errors import UserError
from pipeline.common.files import make_folder, write_json
from pipeline.common.model_card import read_card
from pipeline.common.progress import progress
from trainer.augment import as_in_video
from trainer.dataset import Faces, load_for_scoring
from trainer.pictures import Part, reading_of
from trainer.votes import majority, read_votes

WIDTH: Final = 120
"""Of the table of several sets, in characters."""
LABEL_SOURCES: Final = {"fer2013": "by FER2013's labels", "consensus": "by what most people saw (FER+)"}
METRICS: Final = {"top-1": "top1", "macro-F1": "macro_f1", "recall": "mean_recall"}


@dataclass(frozen=True)
class ScoredSet:
    """The faces of one `part` of the data at `path`.

    `consensus` (n,) is the majority of votes for them, -1 where there is none; None without votes. `halved`:
    whether the model's temperatures were fitted on a half of it.
    """

    path: Path
    part: Part
    faces: Faces
    consensus: NDArray[np.int64] | None
    halved: bool


def run(args: argparse.Namespace) -> None:
    """Run `evaluate`. Raises UserError for a model or data that can't be used."""
    for model in (args.model, args.compare):
        if model is not None and args.output not in (None, *(outputs := read_card(model).outputs)):
            raise UserError(
                f"--output {args.output}: {model} has {' and '.join(outputs)}; choose one of them"
            )
    several = len(args.data) > 1
    for name in ("pictures", "compare", "plots"):
        if several and getattr(args, name) is not None:
            raise UserError(f"--{name}: for one set of pictures, found {len(args.data)} in --data; give one")
    wanted = None if args.pictures is None else read_names(args.pictures)
    # Votes are of the first set: others have none.
    sets = [read_set(args, path, wanted, args.votes if path == args.data[0] else None) for path in args.data]
    for folder in (args.plots, args.json and args.json.parent):
        if folder is not None:
            make_folder(folder)
    if several:
        document = evaluate_several(args, sets)
        print_table(document)
    else:
        document = evaluate(args, sets[0])
        title = f"{args.model}, {sets[0].part} part of {sets[0].path}"
        print_report(document, title + (", as in video" if args.degraded else ""), str(args.compare))
    if args.json is not None:
        write_json(args.json, document)


def read_names(path: Path) -> list[str]:
    """Return names of pictures, one a line, without empty lines. Raises UserError if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); expected names of pictures, one a line"
        ) from error
    if names := [line.strip() for line in lines if line.strip()]:
        return names
    raise UserError(f"{path}: expected names of pictures, one a line, found none")


def read_set(
    args: argparse.Namespace, path: Path, wanted: Sequence[str] | None, votes: Path | None
) -> ScoredSet:
    """Read the faces at `path` that are scored, degraded if `args` say so. Raises UserError."""
    part, faces = load_for_scoring(path, args.split, wanted, reading_of(args))
    consensus = None if votes is None else majority(read_votes(votes, path, faces.names))
    if consensus is not None and not (consensus >= 0).any():
        raise UserError(
            f"{votes}: expected a majority for at least one of the {len(faces)} pictures, found none; "
            "score more pictures, or leave --votes out"
        )
    if args.degraded:
        faces = replace(faces, pixels=as_in_video(faces.pixels))
    # A selection may have any pictures of validation, from both halves.
    return ScoredSet(path, part, faces, consensus, halved=part == "validation" and wanted is None)


def evaluate(args: argparse.Namespace, scored: ScoredSet) -> dict[str, Any]:
    """Return the scores of the model on a set as plain JSON, and draw the plots if `args` asks for them.

    Raises UserError for a model that can't be used and a place that can't be written to.
    """
    # scikit-learn and matplotlib take a second to import, which a mistyped path should not cost.
    from trainer.metrics import compare, predict_by_label_set, score
    from trainer.model_file import open_model, size, speed
    from trainer.plots import draw, draw_mistakes, list_mistakes, most_confident, worst

    faces, consensus = scored.faces, scored.consensus
    model = open_model(args.model)
    predictions = predict_by_label_set(model, faces, consensus, args.output)
    scores = {
        name: score(one, faces.names, scored.halved, args.bootstrap) for name, one in predictions.items()
    }
    paths = {"faces": scored.path, "votes": args.votes, "pictures": args.pictures}
    document: dict[str, Any] = {
        **scores,
        "split": scored.part,
        "degraded": args.degraded,
        "data": {name: path and path.name for name, path in paths.items()},
        "model": size(args.model),
        "speed": speed(model),
        "mistakes": {
            name: list_mistakes(one, faces, most_confident(one)) for name, one in predictions.items()
        },
        "worst": {
            name: {emotion: list_mistakes(one, faces, rows) for emotion, rows in worst(one).items()}
            for name, one in predictions.items()
        },
    }
    if args.compare is not None:
        other = open_model(args.compare)
        others = predict_by_label_set(other, faces, consensus, args.output)
        document["comparison"] = {
            **{name: compare(one, others[name], args.bootstrap) for name, one in predictions.items()},
            "with": size(args.compare),
        }
    if args.plots is not None:
        with progress("drawing plots", len(predictions)) as advance:
            for name, one in predictions.items():
                draw({name: scores[name]}, scored.part, args.plots)
                draw_mistakes(one, faces, scored.part, args.plots)
                advance(1)
    return document


def evaluate_several(args: argparse.Namespace, sets: Sequence[ScoredSet]) -> dict[str, Any]:
    """Return the scores of the model on several sets as plain JSON: one entry a set, label set and output.

    A set without votes is scored by all outputs, unless `args` name one. Raises UserError for a model that
    can't be used.
    """
    from trainer.metrics import predict_by_label_set, score
    from trainer.model_file import open_model

    model = open_model(args.model)
    outputs = read_card(args.model).outputs
    found = []
    for one in sets:
        alone = outputs if one.consensus is None and args.output is None else (args.output,)
        for output in alone:
            for name, predictions in predict_by_label_set(model, one.faces, one.consensus, output).items():
                entry = score(predictions, one.faces.names, one.halved, args.bootstrap)
                labels = name if one.consensus is not None else "its own"
                found.append({"data": one.path.name, "part": one.part, "labels": labels, **entry})
    return {"model": args.model.name, "degraded": args.degraded, "sets": found}


def print_table(document: Mapping[str, Any]) -> None:
    """Print the `document` of several sets, a line for each set, label set and output, in per cent."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("set", "labels", "output"):
        table.add_column(column, no_wrap=True)
    columns = ("pictures", "top-1", "F1", "recall", "ECE", "right", "wrong", "neutral", "true", "mistakes")
    for column in columns:
        table.add_column(column, justify="right")
    for row in document["sets"]:
        neutral = row["neutral"]
        shares = (row["top1"], row["macro_f1"], row["mean_recall"], row["ece"], *row["confidence"].values())
        shares += (neutral["called"], neutral["true"], neutral["of_mistakes"])
        cells = ["" if share is None else f"{100 * share:.1f}" for share in shares]
        table.add_row(row["data"], row["labels"], row["output"], f"{row['pictures']:,}", *cells)
    Console(width=WIDTH, markup=False).print(table)
    print(
        "F1: macro-F1. recall: mean over the emotions. right, wrong: mean confidence of such answers.\n"
        "neutral: of the answers; true: of the labels; mistakes: of the wrong answers."
    )


def print_report(document: Mapping[str, Any], title: str, other: str) -> None:
    """Print an evaluation's `document`; `other` names the model in its comparison, if there is one."""
    size, speed = document["model"], document["speed"]
    work = "unknown" if size["multiply_adds"] is None else f"{size['multiply_adds'] / 1e6:.1f} M"
    count = "unknown" if size["parameters"] is None else f"{size['parameters']:,}"
    print(
        f"{title}\n{count} parameters, {work} multiply-adds, {size['bytes'] / 1e6:.1f} MB; "
        f"{speed['batch_1']:,.0f} faces/s one by one, {speed['batch_32']:,.0f} in batches of 32"
    )
    for label_set, source in LABEL_SOURCES.items():
        if label_set in document:
            print(f"\n{source}, {document[label_set]['pictures']:,} pictures, ", end="")
            print_scores(document[label_set])
    for label_set, source in LABEL_SOURCES.items():
        if label_set in document.get("comparison", {}):
            print(f"\ncompared with {other}, {source}:")
            print_comparison(document["comparison"][label_set])


def print_scores(scores: Mapping[str, Any]) -> None:
    """Print the scores by one label set, with a table of the emotions."""
    ends, neutral, threshold = scores["intervals"], scores["neutral"], scores["uncertain_below"]
    lines = [f"output {scores['output']}:"]
    for name, key in METRICS.items():
        value = f"{scores[key]:.4f}" if key == "macro_f1" else f"{scores[key]:.2%}"
        low, high = ends[key]
        lines.append(f"  {name:<9} {value:<8} {ends['level']:.0%} interval {low:.3f} to {high:.3f}")
    ece = "unknown" if scores["ece"] is None else f"{scores['ece']:.4f}"
    measured = f"{scores['ece_pictures']:,}, {scores['ece_of']}"
    of_all = "" if scores["ece_pictures"] == scores["pictures"] else f"; {scores['ece_all']:.4f} of all"
    lines.append(f"  {'ECE':<9} {ece:<8} of {measured}{of_all}")
    if (chance := scores["ece_by_chance"]) is not None:
        lines.append(
            f"  {'':<9} {chance['mean']:.4f}   by chance alone, were each confidence right; "
            f"{chance['level']:.0%} below {chance['up_to']:.4f}"
        )
    sure = [f"{share:.1%} where {name}" for name, share in scores["confidence"].items() if share is not None]
    lines.append(f"  {'sure':<9} {', '.join(sure)}")
    wrong = "" if neutral["of_mistakes"] is None else f", {neutral['of_mistakes']:.1%} of the mistakes"
    answers = f"{neutral['called']:.1%} of the answers, {neutral['true']:.1%} of the labels"
    lines.append(f"  {'neutral':<9} {answers}{wrong}")
    point = min(scores["risk_coverage"], key=lambda point: abs(point["threshold"] - threshold))
    risk = "unknown" if point["risk"] is None else f"{point['risk']:.1%}"
    lines.append(
        f"  {'uncertain':<9} below {threshold:.2f}; at {point['threshold']:.2f} {point['coverage']:.1%} are "
        f"shown, {risk} of them wrong, {1 - scores['top1']:.1%} of all"
    )
    print("\n".join(lines))
    table = Table("emotion")
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    for emotion, row in scores["per_class"].items():
        fractions = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(emotion, *fractions, f"{row['pictures']:,}")
    Console().print(table)


def print_comparison(found: Mapping[str, Any]) -> None:
    """Print a comparison of two models in four lines."""
    for name, key in METRICS.items():
        row = found[key]
        low, high = row["interval"]
        print(
            f"  {name:<9} {row['difference']:+.4f}  95% interval {low:+.4f} to {high:+.4f}  "
            f"({row['this']:.4f} less {row['other']:.4f})"
        )
    print(
        f"  right alone: this {found['only_this_right']:,}, the other {found['only_other_right']:,} of "
        f"{found['pictures']:,} pictures; {found['test']}: p = {found['p']:.2g}"
    )
