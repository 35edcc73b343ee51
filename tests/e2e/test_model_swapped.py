"""Another model in the file's place while a run is under way, and then the classifier dies."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import write_card
from tests.support.runs import CLIP_FRAMES, Run, Start, balance, read_jsonl, same_but_for_time

pytestmark = pytest.mark.long


@pytest.fixture
def mine(model: Path, tmp_path: Path) -> Path:
    """A copy of the model and its card."""
    copy = tmp_path / "mine.onnx"
    shutil.copyfile(model, copy)
    return write_card(copy)


def in_the_middle(start: Start, quick: list[str], clip: Path, mine: Path, results: Path) -> Run:
    own = ["--set", f"classify.model={mine}", "--set", "capture.pace_fps=20"]
    run = start(*quick, *own, "--source", clip, "--results", results)
    run.until_records(results, 10)
    return run


def other_model_and_card(mine: Path, models: Path) -> None:
    shutil.copyfile(models / "other.onnx", mine)
    write_card(mine)


def other_model(mine: Path, models: Path) -> None:
    shutil.copyfile(models / "other.onnx", mine)


def other_labels(mine: Path, models: Path) -> None:
    write_card(mine, outputs=["consensus"])


def cut_off(mine: Path, models: Path) -> None:
    os.truncate(mine, 1000)


def gone(mine: Path, models: Path) -> None:
    mine.unlink()


@pytest.mark.parametrize(
    ("swap", "said"),
    [
        (other_model_and_card, "mine.onnx: another model than when the run began: sha256 "),
        (other_model, "mine.onnx: not the file of "),
        (other_labels, "classify.labels: fer2013 expected, but "),
        (cut_off, "mine.onnx: not the file of "),
        (gone, "no emotion model "),
    ],
)
def test_no_frame_is_classified_by_another_model(
    start: Start,
    quick: list[str],
    clip: Path,
    mine: Path,
    models: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
    swap: Callable[[Path, Path], None],
    said: str,
) -> None:
    """It is tried a few times, told once, and then the run ends; what was written is right."""
    results = tmp_path / "r.jsonl"
    run = in_the_middle(start, quick, clip, mine, results)
    swap(mine, models)
    os.kill(run.pid("classify-1"), signal.SIGKILL)
    done = run.end()
    assert done.status == 1
    assert len(done.errors) == 2 and said in done.errors[0], done.stderr
    assert done.errors[1] == "error: classify died 5 times without progress"
    records = read_jsonl(results)
    assert 10 <= len(records) < CLIP_FRAMES
    same_but_for_time(records, undisturbed[: len(records)])


def test_the_broker_killed_as_well_changes_nothing(
    start: Start, quick: list[str], clip: Path, mine: Path, models: Path, tmp_path: Path
) -> None:
    """A new broker would take the first model that it hears of; the parent knows which one it must be."""
    results = tmp_path / "r.jsonl"
    run = in_the_middle(start, quick, clip, mine, results)
    other_model_and_card(mine, models)
    for name in ("classify-1", "broker"):
        os.kill(run.pid(name), signal.SIGKILL)
    done = run.end()
    assert done.status == 1
    assert any("another model than when the run began" in line for line in done.errors)


def test_the_right_file_put_back_in_time_is_used(
    start: Start,
    quick: list[str],
    clip: Path,
    mine: Path,
    models: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    results, kept = tmp_path / "r.jsonl", tmp_path / "kept.onnx"
    run = in_the_middle(start, quick, clip, mine, results)
    shutil.copyfile(mine, kept)
    other_model_and_card(mine, models)
    os.kill(run.pid("classify-1"), signal.SIGKILL)
    run.line("another model than when the run began")
    shutil.copyfile(kept, mine)
    write_card(mine)
    done = run.end()
    assert done.status == 0
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    same_but_for_time(read_jsonl(results), undisturbed)
