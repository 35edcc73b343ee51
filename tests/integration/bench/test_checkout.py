"""Another checkout is run by its command line alone: here by a run.py that only writes records."""

import json
import os
import sys
from pathlib import Path

import psutil
import pytest

from bench.against import Checkout, absolute, run_clip, sides
from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from tools.measuring import EndlessRun


def fake(folder: Path, *settings: str) -> Checkout:
    return Checkout("fake", folder, Path(sys.executable), settings)


def test_a_run_gives_its_rate_faces_and_latencies(fake_checkout: Path, tmp_path: Path) -> None:
    run = run_clip(fake(fake_checkout, "fake.fps=12.5"), "demo", 4, tmp_path, pace_fps=5.0)
    assert run == (12.5, 8, 4, [20.0] * 4)


def test_a_checkout_runs_in_its_own_folder_with_its_own_settings(fake_checkout: Path, tmp_path: Path) -> None:
    run_clip(fake(fake_checkout, "fake.fps=1"), "demo", 4, tmp_path, record=True)
    seen = json.loads((fake_checkout / "seen.json").read_text())
    assert seen["cwd"] == str(fake_checkout)
    words = seen["words"]
    assert words[:2] == ["--display", "none"]
    assert {"fake.fps=1", "capture.max_frames=4", "--record"} <= set(words)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fake.error=no model there", "the pipeline of fake: ended with status 2: no model there$"),
        ("fake.status=failed", "expected 4 frames, all ok"),
        ("fake.fps=fast", "expected 'N frames in S s: F frames/s'"),
    ],
)
def test_failed_runs_are_one_line(fake_checkout: Path, tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_clip(fake(fake_checkout, "fake.fps=1", setting), "demo", 4, tmp_path)


def test_leaving_a_run_ends_it(fake_checkout: Path, tmp_path: Path) -> None:
    with EndlessRun(fake(fake_checkout, "fake.endless=yes"), [], tmp_path / "r.jsonl") as run:
        run.wait_for_record()
        run.go_on(0.01)
        assert psutil.pid_exists(run.process.pid)
    assert not psutil.pid_exists(run.process.pid)


def test_a_run_that_ends_while_it_is_waited_for_is_an_error(fake_checkout: Path, tmp_path: Path) -> None:
    failing = fake(fake_checkout, "fake.error=gone")
    with EndlessRun(failing, [], tmp_path / "r.jsonl") as run, pytest.raises(UserError, match="gone"):
        run.go_on(60.0)


def test_the_other_side_has_its_own_python_and_settings(fake_checkout: Path) -> None:
    this, other = sides(fake_checkout, ["detect.workers=1"], ["detect.workers=2"])
    assert (this.folder, this.settings) == (PROJECT, ("detect.workers=1",))
    assert (other.name, other.python) == ("fake", Path(sys.executable))
    assert other.settings == ("detect.workers=2",)
    assert other.version == "no commit"
    own = fake_checkout / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    own.parent.mkdir(parents=True)
    own.touch()
    assert sides(fake_checkout, [], [])[1].python == own
    assert len(sides(None, [], [])) == 1


def test_a_folder_without_the_program_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a checkout of this program, found no run\.py"):
        sides(tmp_path, [], [])


def test_a_file_is_named_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").touch()
    monkeypatch.chdir(tmp_path)
    assert absolute("clip.mp4") == str(tmp_path / "clip.mp4")
    assert absolute("demo:2") == "demo:2"
