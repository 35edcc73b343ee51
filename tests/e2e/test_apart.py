"""`--only`: the stages of one run started apart, as on several machines."""

from pathlib import Path
from typing import Any

from pipeline.wire.addresses import free_port
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl, same_but_for_time


def test_stages_apart(
    start: Start,
    quick: list[str],
    clip: Path,
    models: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    """Workers are there before the broker; one with another model is refused, the others end with the run."""
    address, results = f"tcp://127.0.0.1:{free_port()}", tmp_path / "r.jsonl"
    other = models / "other.onnx"
    there = ["--broker", address]
    workers = [
        start(*quick, *there, "--only", "classify"),
        start(*quick, *there, "--only", "detect", "--set", "detect.workers=1"),
        start(*quick, *there, "--only", "detect", "--set", "detect.workers=1"),
    ]
    for worker in workers:
        worker.line("works for the broker at ")
    broker = start(*quick, *there, "--only", "broker", "--set", "log.status_interval_s=0.5")
    broker.line("results are published at ")
    display = start(*quick, *there, "--only", "display", "--results", results)
    broker.line("waiting for capture$")  # the classifier that came first says which model it is

    refused = start(*quick, *there, "--only", "classify", "--set", f"classify.model={other}")
    done = refused.end()
    assert done.status == 2
    assert len(done.errors) == 1
    assert "its model is not the one that this run uses" in done.errors[0]

    capture = start(*quick, *there, "--only", "capture", "--source", clip)
    for run in (capture, display, broker, *workers):
        done = run.end()
        assert done.status == 0, done.stderr
        assert done.errors == []
    same_but_for_time(read_jsonl(results), undisturbed)
    assert len(undisturbed) == CLIP_FRAMES
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in broker.end().stdout
