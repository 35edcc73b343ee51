"""Emotion models of one's own, and a model file that is replaced while a run is under way."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import BOTH, CONFIDENCE, save_onnx, write_card
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl, same_but_for_time

PACE = ["--set", "capture.pace_fps=20"]


def test_model_with_large_faces_in_colour_and_two_sets_of_labels(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    """A classifier that replaces a killed one shows the same labels."""
    shape = {"shape": [96, 96, 3], "dtype": "uint8"}
    model = save_onnx(tmp_path / "own.onnx", BOTH, size=96, channels=3, input=shape)
    results = tmp_path / "r.jsonl"
    own = ["--set", f"classify.model={model}", "--set", "classify.labels=fer2013"]
    run = start(*quick, *own, *PACE, "--source", clip, "--results", results)
    run.line("emotion model: .*own.onnx, labels: fer2013")
    run.until_records(results, 10)
    os.kill(run.pid("classify-1"), signal.SIGKILL)
    done = run.end()
    assert done.status == 0, done.stderr
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    faces = [face for record in read_jsonl(results) for face in record["faces"]]
    assert len(faces) >= CLIP_FRAMES
    assert {face["emotion"] for face in faces} == {BOTH["fer2013"]}
    assert faces[-1]["confidence"] == pytest.approx(CONFIDENCE, abs=1e-3)


def test_no_frame_is_classified_by_another_model(
    start: Start,
    quick: list[str],
    clip: Path,
    models: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    """The file is replaced, classifier and broker die: the run waits until the right file is back."""
    mine, kept, results = tmp_path / "mine.onnx", tmp_path / "kept.onnx", tmp_path / "r.jsonl"
    write_card(Path(shutil.copyfile(models / "tiny.onnx", mine)))
    run = start(*quick, *PACE, "--set", f"classify.model={mine}", "--source", clip, "--results", results)
    run.until_records(results, 10)
    shutil.copyfile(mine, kept)
    write_card(Path(shutil.copyfile(models / "other.onnx", mine)))
    for name in ("classify-1", "broker"):
        os.kill(run.pid(name), signal.SIGKILL)
    run.line("mine.onnx: another model than when the run began: sha256 ")
    write_card(Path(shutil.copyfile(kept, mine)))
    done = run.end()
    assert done.status == 0, done.stderr
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    same_but_for_time(read_jsonl(results), undisturbed)
