"""`pip install .` into an empty environment gives the command and the import, models included."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT

LIMIT_S = 900

SCRIPT = """
import emotions, json, sys
record = next(emotions.load().analyse_video("demo"))
with emotions.watch("demo", "detect.workers=1") as records:
    watched = next(iter(records))
print(json.dumps([emotions.__file__, len(record.faces), len(watched.faces), "tensorflow" in sys.modules]))
"""


def run(*words: object, place: Path, **options: object) -> str:
    """Run a command in a folder that is no checkout; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of_what_is_tracked(place: Path) -> Path:
    """Return a checkout to build in: a build leaves files behind."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if not name.startswith(("tests/", "docs/")) and (PROJECT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes((PROJECT / name).read_bytes())
    return place


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
def test_installed_in_an_empty_environment(tmp_path: Path) -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to it is not known")
    source, away = copy_of_what_is_tracked(tmp_path / "source"), tmp_path / "away"
    away.mkdir()
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    run(programs / "python", "-m", "pip", "install", "--quiet", source, place=away)
    checked = run(programs / "emotions", "check", "--display", "none", place=away)
    assert "it would run" in checked
    assert "sha256 and emotions are right" in checked
    assert "usage: emotions" in run(programs / "emotions", "--help", place=away)
    results = away / "r.jsonl"
    words = ("--source", "demo", "--display", "none", "--set", "capture.max_frames=5", "--results", results)
    run(programs / "emotions", *words, place=away)
    assert len(results.read_text().splitlines()) == 5
    run(programs / "emotions", "report", results, "--out", away / "r.html", "--faces", "demo", place=away)
    assert "<svg" in (away / "r.html").read_text()
    where, faces, watched, tensorflow = json.loads(run(programs / "python", "-c", SCRIPT, place=away))
    assert str(tmp_path / "venv") in where
    assert faces == watched == 3
    assert not tensorflow
