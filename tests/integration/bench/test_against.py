"""`python run.py bench --against DIR`: two checkouts in turn."""

import json
import sys
from pathlib import Path

import pytest

from bench.against import Checkout, run_against
from pipeline.common.errors import UserError
from pipeline.config.schema import PipelineSettings
from tests.support.bench_runs import bench_options


def test_both_are_measured_in_each_scene(
    fake_checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = [
        Checkout(name, fake_checkout, Path(sys.executable), (f"fake.fps={fps}",))
        for name, fps in (("this", 60.0), ("other", 20.0))
    ]
    figures = tmp_path / "figures.json"
    options = bench_options(source="demo:1", frames=4, runs=2, json=figures)
    assert run_against(PipelineSettings(), options, pair) == 0
    document = json.loads(figures.read_text())
    assert [scene["scene"] for scene in document["scenes"]] == [
        "demo-1, 960×540",
        "drawn and recorded",
        "the same at 1920×1080",
    ]
    for scene in document["scenes"]:
        assert (scene["runs"], scene["ratio"]) == (2, 3.0)
        assert (scene["this"]["fps_runs"], scene["other"]["fps_runs"]) == ([60.0, 60.0], [20.0, 20.0])
        assert scene["this"]["faces_per_frame"] == 2.0
    assert document["latency_at_fps"] == 10.0  # half the rate of the slower one
    assert document["latency_ms"]["this"] == {"p50": 20.0, "p95": 20.0, "p99": 20.0}
    assert document["machine"]["cores"] >= 1
    assert "60.0 (60.0–60.0)" in capsys.readouterr().out


def test_live_sources_are_refused() -> None:
    with pytest.raises(UserError, match="the same frames each time"):
        run_against(PipelineSettings(), bench_options(source="0"), [])
