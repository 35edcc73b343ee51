"""The loops and the pipeline on a few frames of the demo, in real processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.job import BareCost, ClipInfo, LoopRun, run_job
from bench.measure import run_pipeline
from pipeline.common.errors import UserError
from pipeline.config.loader import override
from pipeline.config.schema import PipelineSettings
from stages.stage import TABLES
from tests.support.models import BOTH, CONFIDENCE

FRAMES = 4

pytestmark = pytest.mark.timeout(400)  # a busy machine makes everything long, TensorFlow's start above all


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_plain_loop_writes_a_record_for_each_frame(
    threads: int, settings: PipelineSettings, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    run = run_job(LoopRun, "plain", settings, "demo:2", FRAMES, threads=threads, output=results)
    check_records(run, results)


@pytest.mark.long
def test_the_tutorials_loop_writes_a_record_for_each_frame(
    settings: PipelineSettings, keras_model: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    asked = override(settings, {"classify.model": str(keras_model), "classify.labels": "consensus"}, TABLES)
    check_records(run_job(LoopRun, "tutorial", asked, "demo:2", FRAMES, output=results), results)
    assert emotions(results) == {BOTH["consensus"]}


def check_records(run: LoopRun, results: Path) -> None:
    assert (run.frames, run.faces) == (FRAMES, 2 * FRAMES)
    assert run.seconds > 0
    assert [record["frame"] for record in records(results)] == list(range(FRAMES))
    assert all(len(record["faces"]) == 2 for record in records(results))


def emotions(results: Path) -> set[str]:
    return {face["emotion"] for record in records(results) for face in record["faces"]}


def test_the_plain_loop_shows_the_labels_that_are_asked_for(
    settings: PipelineSettings, model_of_both: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    both = override(settings, {"classify.model": str(model_of_both), "classify.labels": "fer2013"}, TABLES)
    run_job(LoopRun, "plain", both, "demo:2", FRAMES, output=results)
    assert emotions(results) == {BOTH["fer2013"]}
    faces = [face for record in records(results) for face in record["faces"]]
    assert {round(face["confidence"], 3) for face in faces} == {round(CONFIDENCE, 3)}


def test_each_part_of_the_work_takes_time(settings: PipelineSettings) -> None:
    cost = run_job(BareCost, "bare", settings, "demo:2", FRAMES)
    assert min(cost.decode, cost.detect, cost.classify, cost.draw) > 0


def test_the_pipeline_is_measured_over_as_many_frames_and_keeps_its_pace(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    run = run_pipeline(settings, "demo:2", 2 * FRAMES, results, pace_fps=5.0)
    assert run.frames == len(run.latency_ms) == len(records(results)) == 2 * FRAMES
    assert (run.dropped, run.failed) == (0, 0)
    assert sum(size * count for size, count in run.batches.items()) == 2 * 2 * FRAMES
    assert run.fps < 6.0  # eight frames at five a second: an upper bound is no matter of speed


def test_a_clip_is_counted_and_made_larger(tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    settings, full_hd = PipelineSettings(), ClipInfo(FRAMES, 1920, 1080)
    assert run_job(ClipInfo, "probe", settings, "demo:2", FRAMES) == ClipInfo(FRAMES, 960, 540)
    assert run_job(ClipInfo, "scale", settings, "demo:2", FRAMES, output=large) == full_hd
    assert run_job(ClipInfo, "probe", settings, str(large), 100) == full_hd


def test_modules_of_the_current_folder_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("bench", "pipeline", "stages"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('loaded')")
    monkeypatch.chdir(tmp_path)
    assert run_job(ClipInfo, "probe", PipelineSettings(), "demo:2", FRAMES).frames == FRAMES


def test_what_is_wrong_with_a_clip_comes_back_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(UserError, match=r"text\.mp4.*not a video"):
        run_job(ClipInfo, "probe", PipelineSettings(), str(text), 1)
