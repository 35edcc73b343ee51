"""Whose labels a run shows, of a model that has learnt two sets of them."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.wire.addresses import free_port
from tests.support.models import BOTH, CONFIDENCE, write_card
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl

pytestmark = pytest.mark.long


@pytest.fixture
def both(quick: list[str], models: Path) -> Callable[[str], list[str]]:
    """Return the options of a run of the model with two outputs that shows one of them."""

    def options(labels: str) -> list[str]:
        return [
            *quick,
            "--set",
            f"classify.model={models / 'both.onnx'}",
            "--set",
            f"classify.labels={labels}",
        ]

    return options


@pytest.mark.parametrize(
    ("labels", "shown"), [("auto", "consensus"), ("consensus", "consensus"), ("fer2013", "fer2013")]
)
def test_a_run_shows_the_labels_that_are_asked_for(
    start: Start, both: Callable[[str], list[str]], clip: Path, tmp_path: Path, labels: str, shown: str
) -> None:
    """A classifier that takes another's place does so too."""
    results = tmp_path / "r.jsonl"
    run = start(*both(labels), "--source", clip, "--results", results, "--set", "capture.pace_fps=20")
    run.line(f"emotion model: .*both.onnx, labels: {shown}")
    run.until_records(results, 10)
    os.kill(run.pid("classify-1"), signal.SIGKILL)
    done = run.end()
    assert done.status == 0, done.stderr
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    faces = [face for record in read_jsonl(results) for face in record["faces"]]
    assert len(faces) >= CLIP_FRAMES
    for face in faces:
        assert face["emotion"] == BOTH[shown]
        assert face["confidence"] == pytest.approx(CONFIDENCE, abs=1e-3)


def test_a_worker_that_shows_other_labels_is_refused(start: Start, both: Callable[[str], list[str]]) -> None:
    """Of the same file, and though it is told nothing: without a word, a worker shows the consensus."""
    there = ["--broker", f"tcp://127.0.0.1:{free_port()}"]
    run = start(*both("fer2013"), *there, "--only", "broker,classify")
    run.line("waiting for (display, )?(detect, )?capture")
    refused = start(*both("auto"), *there, "--only", "classify").end()
    assert refused.status == 2
    assert len(refused.errors) == 1
    assert "its model is not the one that this run uses: expected both " in refused.errors[0]
    assert refused.errors[0].endswith("consensus; use the same file and classify.labels on every machine")
    run.signal(signal.SIGINT)
    assert run.end().status == 130


def test_a_model_that_is_not_what_its_card_says_is_refused(
    start: Start, quick: list[str], clip: Path, models: Path, tmp_path: Path
) -> None:
    """The card promises an output that the file does not have: found when the file is loaded."""
    mine = write_card(Path(shutil.copyfile(models / "tiny.onnx", tmp_path / "mine.onnx")), outputs=list(BOTH))
    done = start(*quick, "--source", clip, "--set", f"classify.model={mine}").end()
    assert done.status == 2
    assert len(done.errors) == 1
    assert (
        "mine.onnx: outputs fer2013, consensus expected, as its card says, 'fer2013' found" in done.errors[0]
    )
