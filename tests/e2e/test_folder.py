"""The folder that a run is started from."""

import subprocess
import sys
from pathlib import Path

from pipeline.common.files import PROJECT
from tests.support.runs import LIMIT_S, read_jsonl


def test_modules_of_the_current_folder_are_not_loaded(quick: list[str], tmp_path: Path) -> None:
    for package in ("pipeline", "stages", "numpy"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('of the current folder')")
    results = tmp_path / "r.jsonl"
    words = [*quick, "--source", "demo:1", "--set", "capture.max_frames=3", "--results", str(results)]
    command = [sys.executable, str(PROJECT / "run.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_jsonl(results)) == 3
