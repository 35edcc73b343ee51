"""The command line from outside: quick help, quiet TensorFlow, exit statuses."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def trainer(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "trainer", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=PROJECT,
    )


def test_help_names_the_commands_without_loading_tensorflow() -> None:
    done = trainer("--help", python=("-X", "importtime"))
    assert done.returncode == 0
    assert "fit" in done.stdout
    assert "evaluate" in done.stdout
    assert "argparse" in done.stderr
    assert not {"numpy", "keras", "tensorflow"} & {
        line.split("|")[-1].strip() for line in done.stderr.splitlines()
    }


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit"],
        ["fit", "--data", "x", "--out", "y", "--epochs", "0"],
        ["fit", "--data", "x", "--out", "y", "--seed", "-1"],
        ["fit", "--data", "x", "--out", "y", "--model", "huge"],
        ["evaluate", "--model", "m", "--data", "x", "--split", "train"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    done = trainer(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_evaluate_says_nothing_but_its_figures(trained: Path, tiny: Path) -> None:
    done = trainer("evaluate", "--model", str(trained / "emotion.keras"), "--data", str(tiny))
    assert done.returncode == 0
    assert done.stderr == ""
    assert "macro-F1" in done.stdout
