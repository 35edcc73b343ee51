"""Mean and spread of several trainings."""

import statistics
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from trainer.files import write_json

FIGURES: Final = ("top1", "macro_f1", "ece")


def write_summary(cards: dict[str, dict[str, Any]], path: Path, console: Console) -> None:
    """Write and print mean and standard deviation of the figures in `cards`, by name of the run.

    The standard deviation is that of the sample, 0 for a single run. Raises UserError if `path` can't be
    written.
    """
    summary: dict[str, Any] = {"runs": sorted(cards)}
    for label_set in next(iter(cards.values()))["figures"]:
        summary[label_set] = {}
        for key in FIGURES:
            values = [card["figures"][label_set][key] for card in cards.values()]
            known = [value for value in values if value is not None]
            summary[label_set][key] = {
                "values": dict(zip(cards, values, strict=True)),
                "mean": statistics.fmean(known) if known else None,
                "deviation": statistics.stdev(known) if len(known) > 1 else 0.0,
            }
        top1 = summary[label_set]["top1"]
        console.print(
            f"{label_set}: top-1 {top1['mean']:.4f} ± {top1['deviation']:.4f} over {len(cards)} runs"
        )
    write_json(path, summary)
