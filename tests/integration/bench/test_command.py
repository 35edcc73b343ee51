"""`python run.py bench` as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import job
from bench.command import run_bench
from pipeline.cli.main import main
from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.config.loader import override
from pipeline.config.schema import PipelineSettings
from stages.classify.spec import ClassifySettings
from stages.stage import TABLES
from tests.support.bench_runs import bench_options

pytestmark = pytest.mark.timeout(400)


SETTINGS = ("detect.model=haar", "detect.workers=1")


def words(model: Path, *more: str) -> list[str]:
    settings = (f"classify.model={model}", *SETTINGS)
    options = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, str(PROJECT / "run.py"), "bench", "--frames", "4", *options, *more]


@pytest.mark.long
def test_the_command_measures_prints_and_writes(tiny_model: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = words(
        tiny_model, "--source", "demo:1", "--runs", "1", "--without-tutorial", "--json", str(figures)
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert (done.returncode, "plain loop" in done.stdout) == (0, True), done.stderr
    document = json.loads(figures.read_text())
    assert document["settings"]["model"]["multiply_adds"] == 112
    assert document["settings"]["model"]["labels"] == "fer2013"
    assert document["pipeline"]["fps"] > 0
    assert [other["scene"] for other in document["others"]] == ["the same at 1920×1080"]


@pytest.mark.long
def test_two_checkouts_are_compared(tiny_model: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    other = [word for setting in SETTINGS for word in ("--against-set", setting)]
    other += ["--against-set", f"classify.model={tiny_model}"]
    command = words(tiny_model, "--source", "demo:1", "--runs", "1", "--against", str(PROJECT), *other)
    done = subprocess.run(
        [*command, "--json", str(figures)], capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(figures.read_text())
    assert len(document["scenes"]) == 3
    for scene in document["scenes"]:
        assert scene["this"]["faces_per_frame"] == scene["other"]["faces_per_frame"] >= 1


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tiny_model: Path, tmp_path: Path, number: signal.Signals) -> None:
    # Tests that a shell runs in the background are given SIGINT ignored, and what they start inherits that.
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    bench = subprocess.Popen(
        words(tiny_model, "--without-tutorial"), stderr=subprocess.PIPE, text=True, env=environment
    )
    signal.signal(signal.SIGINT, kept)
    deadline_s = time.monotonic() + 100
    while not list(tmp_path.glob("emotions-bench-*/results.jsonl")) and time.monotonic() < deadline_s:
        time.sleep(0.05)  # until a loop is under way
    bench.send_signal(number)
    _, said = bench.communicate(timeout=30)
    assert bench.returncode == 128 + number
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "model", "message"),
    [
        ("absent.mp4", "", "absent.mp4"),
        ("0", "", "bench needs the same frames each time"),
        ("demo", "absent.keras", "no emotion model absent.keras"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(
    unloaded_settings: PipelineSettings, source: str, model: str, message: str
) -> None:
    settings = unloaded_settings
    if model:
        settings = PipelineSettings(ClassifySettings(model=model))
    with pytest.raises(UserError, match=message):
        run_bench(settings, bench_options(source=source, frames=4))


def test_labels_that_the_model_has_not_are_said_before_anything_runs(
    unloaded_settings: PipelineSettings,
) -> None:
    settings = override(unloaded_settings, {"classify.labels": "consensus"}, TABLES)
    with pytest.raises(UserError, match="consensus expected"):
        run_bench(settings, bench_options(frames=4))


def test_a_place_that_cannot_be_written_is_said_first(
    unloaded_settings: PipelineSettings, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="can't be written"):
        run_bench(unloaded_settings, bench_options(json=tmp_path / "absent" / "figures.json"))


def test_without_tensorflow_the_command_says_what_to_install(
    unloaded_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"pip install -r requirements-train\.txt.*--without-tutorial"):
        run_bench(unloaded_settings, bench_options())


def test_without_a_keras_file_the_tutorials_loop_is_refused(settings: PipelineSettings) -> None:
    with pytest.raises(UserError, match=r"there is no .*tiny\.keras; .*--without-tutorial"):
        run_bench(settings, bench_options())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", ".", "--plots", "plots"], "can't be used with --against"),
        (["--against", ".", "--without-tutorial"], "can't be used with --against"),
        (["--against-set", "detect.model=haar"], "--against-set needs --against"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *options])
    assert message in capsys.readouterr().err


def test_the_parent_loads_neither_tensorflow_nor_opencv() -> None:
    heavy = "('cv2', 'tensorflow', 'onnxruntime')"
    look = f"import sys, bench.against; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout.strip() == "[]", done.stderr
