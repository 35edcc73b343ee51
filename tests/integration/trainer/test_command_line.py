"""The command line from outside: quick help, quiet TensorFlow, exit statuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT
from trainer.__main__ import main


def trainer(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "trainer", *arguments],
        capture_output=True,
        text=True,
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


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--model", f"{LONG}.keras", "--data", "x"],
        ["fit", "--data", "x", "--out", LONG],
        ["fit", "--data", LONG, "--out", "y"],
        ["distill", "--data", "x", "--out", "y", "--teachers", f"{LONG}.keras"],
    ],
)
def test_path_that_the_system_refuses_is_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    text = capsys.readouterr()
    assert text.err.startswith("error: ") and LONG in text.err and text.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may enter every folder")
def test_folder_without_permission_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    (closed / "train" / "angry").mkdir(parents=True)
    closed.chmod(0)
    try:
        for arguments in (
            ["evaluate", "--model", str(closed / "m.keras"), "--data", "x"],
            ["fit", "--data", str(closed), "--out", str(tmp_path / "out")],
        ):
            assert main(arguments) == 2
            text = capsys.readouterr().err
            assert text.startswith(f"error: {closed}") and text.count("\n") == 1
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize("command", [["fit", "--out", "out"], ["evaluate", "--model", "m.keras"]])
def test_missing_packages_are_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    assert main([*command, "--data", "faces.zip"]) == 2
    text = "error: the trainer needs tensorflow, keras: pip install -r requirements-train.txt\n"
    assert capsys.readouterr().err == text


def test_onnx_model_is_scored_without_tensorflow(trained: Path, tiny: Path) -> None:
    arguments = ("evaluate", "--model", str(trained / "emotion.onnx"), "--data", str(tiny))
    done = trainer(*arguments, python=("-X", "importtime"))
    assert done.returncode == 0
    assert "macro-F1" in done.stdout
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "onnxruntime" in loaded
    assert not {"keras", "tensorflow", "torch"} & loaded


def test_evaluate_prints_nothing_but_its_scores_and_its_progress(trained: Path, tiny: Path) -> None:
    """No line of a library. How far it is stands on stderr, on a machine so slow that it takes seconds."""
    done = trainer("evaluate", "--model", str(trained / "emotion.keras"), "--data", str(tiny))
    assert done.returncode == 0
    for line in done.stderr.splitlines():
        assert re.fullmatch(r"[a-z ]+: [\d,]+ of [\d,]+, about \d+ s left", line)
    assert "macro-F1" in done.stdout
