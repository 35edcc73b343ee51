"""All pictures of an evaluation, in one folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.data.faces import Faces
from trainer.scoring.judging import Judged
from trainer.scoring.mistakes import plot_most_confident, plot_worst
from trainer.scoring.plots import plot_confusion
from trainer.scoring.reliabilityplot import plot_reliability


def draw(scores: Mapping[str, Any], split: str, folder: Path) -> None:
    """Confusion matrix and reliability diagram of each set of labels in `scores`. Raises UserError."""
    for label_set, figures in scores.items():
        about = f"{label_set}, {split}"
        plot_confusion(
            figures,
            f"{about}: top-1 {figures['top1']:.1%}, macro-F1 {figures['macro_f1']:.3f}",
            folder / file_name("confusion", label_set),
        )
        if figures["ece"] is not None:
            plot_reliability(
                figures,
                f"{about}: calibration error {figures['ece']:.3f} of {figures['ece_pictures']:,} pictures",
                folder / file_name("reliability", label_set),
            )


def draw_mistakes(judged: Judged, faces: Faces, split: str, folder: Path) -> None:
    """The most confident mistakes, and the worst of each emotion. Raises UserError."""
    about = f"{judged.label_set}, {split}"
    plot_most_confident(
        judged, faces, f"{about}: most confident mistakes", folder / file_name("mistakes", judged.label_set)
    )
    plot_worst(
        judged,
        faces,
        f"{about}: mistakes with the least probability for the true emotion",
        folder / file_name("worst", judged.label_set),
    )


def file_name(what: str, label_set: str) -> str:
    """The name of a plot: plain for FER2013's labels, the others stand beside it."""
    return f"{what}.png" if label_set == "fer2013" else f"{what}-{label_set}.png"
