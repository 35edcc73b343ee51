"""A stage that is added by a folder of its own and a line in STAGES takes part in a whole run."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.files import PROJECT
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl

SHARPNESS = Path(__file__).parents[1] / "support" / "sharpness"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the stage of tests/support/sharpness."""
    copy = tmp_path_factory.mktemp("project")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0")[:-1]:
        if name.startswith(("pipeline", "stages", "run.py", "models")) and (PROJECT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, copy / name)
    shutil.copytree(SHARPNESS, copy / "stages" / "sharpness")
    table = copy / "stages" / "stage.py"
    text = table.read_text(encoding="utf-8")
    found = text.replace(
        "from stages.display", "from stages.sharpness.spec import SHARPNESS\nfrom stages.display"
    )
    found = found.replace("CLASSIFY, CAPTURE)", "CLASSIFY, SHARPNESS, CAPTURE)")
    assert found.count("SHARPNESS") == 2
    table.write_text(found, encoding="utf-8")
    return copy


def sharpness(records: list[dict[str, Any]]) -> list[list[float]]:
    return [[face.pop("extras")["sharpness"] for face in record["faces"]] for record in records]


def test_its_number_stands_with_every_face_though_processes_are_killed(
    start: Start, quick: list[str], clip: Path, project: Path, tmp_path: Path
) -> None:
    paths = tmp_path / "undisturbed.jsonl", tmp_path / "killed.jsonl"
    options = *quick, "--source", clip, "--set", "sharpness.workers=2", "--set", "capture.pace_fps=20"
    quiet = start(*options, "--results", paths[0], project=project)
    killed = start(*options, "--results", paths[1], project=project)
    for number, name in enumerate(("sharpness-1", "detect-1", "broker")):
        killed.until_records(paths[1], 10 + 15 * number)
        os.kill(killed.pid(name), signal.SIGKILL)
    for run in (quiet, killed):
        done = run.end()
        assert done.status == 0, done.stderr
        assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    expected, found = (sharpness(read_jsonl(path, extras=True)) for path in paths)
    assert found == expected
    assert sum(map(len, found)) > CLIP_FRAMES
    assert all(value > 0 for values in found for value in values)


def test_its_settings_are_checked(start: Start, quick: list[str], project: Path) -> None:
    done = start(*quick, "--set", "sharpness.workers=0", project=project).end()
    assert done.status == 2
    assert "sharpness.workers" in done.errors[0]
