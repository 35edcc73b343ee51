"""The figures of an evaluation in the terminal."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

TRUTHS: Final = {"fer2013": "by FER2013's labels", "consensus": "by what most people saw (FER+)"}


def show(document: Mapping[str, Any], title: str, other: str) -> None:
    """Print all of an evaluation's `document`; `other` is what the model is compared with, if it is."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{title}\n{cost(document['model'], document['speed'])}")
    for label_set, truth in TRUTHS.items():
        if label_set in document:
            console.print(f"\n{truth}, {document[label_set]['pictures']:,} pictures, ", end="")
            show_figures(document[label_set], console)
    for label_set, truth in TRUTHS.items():
        if label_set in document.get("comparison", {}):
            console.print(
                f"\ncompared with {other}, {truth}:\n{difference(document['comparison'][label_set])}"
            )


def cost(size: Mapping[str, Any], speed: Mapping[str, Any]) -> str:
    """One line on size and speed."""
    adds, weights = size["multiply_adds"], size["parameters"]
    work = "unknown" if adds is None else f"{adds / 1e6:.1f} M"
    many = "unknown" if weights is None else f"{weights:,}"
    return (
        f"{many} parameters, {work} multiply-adds, {size['bytes'] / 1e6:.1f} MB; "
        f"{speed['batch_1']:,.0f} faces/s one by one, {speed['batch_32']:,.0f} in batches of 32"
    )


def show_figures(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures by one set of labels, with a table of the emotions."""
    console.print(f"output {figures['output']}:")
    ends = figures["intervals"]
    for name, key, value in (
        ("top-1", "top1", f"{figures['top1']:.2%}"),
        ("macro-F1", "macro_f1", f"{figures['macro_f1']:.4f}"),
    ):
        low, high = ends[key]
        console.print(f"  {name:<9} {value:<8} {ends['level']:.0%} interval {low:.3f} to {high:.3f}")
    console.print(f"  {'ECE':<9} {calibration(figures)}")
    if (chance := figures["ece_by_chance"]) is not None:
        console.print(
            f"  {'':<9} {chance['mean']:.4f}   by chance alone, were each confidence right; "
            f"{chance['level']:.0%} below {chance['up_to']:.4f}"
        )
    table = Table("emotion")
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    for emotion, row in figures["per_class"].items():
        fractions = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(emotion, *fractions, f"{row['pictures']:,}")
    console.print(table)


def calibration(figures: Mapping[str, Any]) -> str:
    """The calibration error in words: of which pictures, and of all."""
    overall = f"{figures['ece_all']:.4f}"
    if figures["ece_pictures"] == figures["pictures"]:
        return f"{overall}   of all pictures"
    if figures["ece"] is None:
        return f"unknown, no picture in {figures['ece_of']}; {overall} of all"
    return f"{figures['ece']:.4f}   of {figures['ece_pictures']:,}, {figures['ece_of']}; {overall} of all"


def difference(found: Mapping[str, Any]) -> str:
    """A comparison in a few lines."""
    lines = []
    for name, key in (("top-1", "top1"), ("macro-F1", "macro_f1")):
        row = found[key]
        low, high = row["interval"]
        lines.append(
            f"  {name:<9} {row['difference']:+.4f}  95% interval {low:+.4f} to {high:+.4f}  "
            f"({row['this']:.4f} less {row['other']:.4f})"
        )
    lines.append(
        f"  right alone: this {found['only_this_right']:,}, the other {found['only_other_right']:,} of "
        f"{found['pictures']:,} pictures; {found['test']}: p = {found['p']:.2g}"
    )
    return "\n".join(lines)
