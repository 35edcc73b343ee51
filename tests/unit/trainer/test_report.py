"""What `evaluate` prints."""

from typing import Any

import numpy as np
import pytest

from trainer.evaluate import print_report
from trainer.metrics import Predictions, compare, score

NAMES = [f"test/sad/PublicTest_{number:05d}.png" for number in range(70)]
LABELS = np.arange(70) % 7


def document() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    one, two = (
        Predictions(
            "fer2013", "fer2013", np.arange(70), LABELS, rng.dirichlet(np.ones(7), 70).astype(np.float32)
        )
        for _ in range(2)
    )
    return {
        "fer2013": score(one, NAMES, halved=True, resamples=50),
        "model": {"parameters": 1_234_567, "multiply_adds": None, "bytes": 5_000_000},
        "speed": {"batch_1": 812.4, "batch_32": 1999.6},
        "comparison": {"fer2013": compare(one, two, 50)},
    }


def test_all_scores_in_lines_of_100(capsys: pytest.CaptureFixture[str]) -> None:
    found = document()
    print_report(found, "a.keras", "b.keras")
    text = capsys.readouterr().out
    assert "1,234,567 parameters, unknown multiply-adds, 5.0 MB; 812 faces/s one by one" in text
    figures = found["fer2013"]
    assert f"{figures['top1']:.2%}" in text
    assert f"{figures['ece']:.4f}   of {figures['ece_pictures']}, the half of validation" in text
    assert f"{figures['ece_all']:.4f} of all" in text
    assert f"{figures['ece_by_chance']['mean']:.4f}   by chance alone" in text
    assert f"p = {found['comparison']['fer2013']['p']:.2g}" in text
    assert max(map(len, text.splitlines())) <= 100


def test_brackets_in_names_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(document(), "runs/[/red]/[bold]a.keras", "[b].keras")
    text = capsys.readouterr().out
    assert "runs/[/red]/[bold]a.keras" in text
    assert "compared with [b].keras" in text
