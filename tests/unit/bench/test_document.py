"""The document, the table and the plots, on made-up runs."""

from pathlib import Path

import pytest

from bench.document import make_document, plot_batches, plot_crowds, show, summary, throughput
from tests.support.bench_runs import MACHINE, SETTINGS, measured

KEYS = {
    "machine", "settings", "pipeline", "tutorial_loop", "plain_loop", "ratio_to_tutorial", "ratio_to_plain",
    "efficiency",
}  # fmt: skip


def test_the_document_has_every_key_and_its_figures_are_medians() -> None:
    document = make_document(MACHINE, SETTINGS, measured(), [measured("large")])
    assert set(document) >= KEYS
    pipeline = document["pipeline"]
    assert set(pipeline) >= {"fps", "latency_ms", "batch", "cpu_ms_per_frame", "dropped"}
    assert (document["tutorial_loop"]["fps"], document["plain_loop"]["fps"], pipeline["fps"]) == (5, 40, 80)
    assert (document["ratio_to_tutorial"], document["ratio_to_plain"]) == (16, 2)
    assert document["plain_loop"]["threads"] == 1
    assert document["plain_loop"]["fps_by_threads"] == {"1": 40, "2": 35}
    assert pipeline["latency_ms"] == {"p50": 30.0, "p95": 39.0, "p99": 39.8}
    assert pipeline["latency_at_fps"] == 30
    assert pipeline["batch"] == {"mean": 2.5, "histogram": {"2": 90, "4": 30}}
    assert pipeline["cpu_ms_per_frame"] == {"detect": 9.0, "broker": 1.0}
    assert pipeline["dropped"] == 1
    assert pipeline["fps_spread"] == [60, 90]
    assert document["efficiency"] == pytest.approx(80 * 0.016 / 2)
    assert document["others"][0]["scene"] == "large"


def test_the_table_shows_each_scene_and_the_summary_says_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    document = make_document(MACHINE, SETTINGS, measured(), [measured("the same at 1920×1080")])
    show(document)
    shown = capsys.readouterr().out
    for text in (
        "clip.mp4, 640×480",
        "the same at 1920×1080",
        "80.0 (60.0–90.0)",
        "40.0 (20.0–41.0) 1t",
        "16.0",
        "2.00",
    ):
        assert text in shown
    assert "model tiny, labels consensus, 2.0 million multiply-adds" in shown
    assert "efficiency 64 %" in summary(document)[-1]


def test_the_tutorials_loop_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    document = make_document(MACHINE, SETTINGS, measured()._replace(tutorial=[]), [])
    assert (document["tutorial_loop"], document["ratio_to_tutorial"]) == (None, None)
    show(document)
    assert "–" in capsys.readouterr().out


@pytest.mark.parametrize("tutorial", [True, False])
def test_the_plots_are_written(tmp_path: Path, tutorial: bool) -> None:
    runs = [measured(f"demo:{faces}") for faces in (1, 2)]
    crowds = [throughput(run if tutorial else run._replace(tutorial=[])) for run in runs]
    plot_crowds(crowds, (1, 2), tmp_path / "crowds.png")
    plot_batches(make_document(MACHINE, SETTINGS, measured(), []), tmp_path / "batches.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("crowds.png", "batches.png"))
