"""What the fuzzer starts from holds; and, where atheris is installed, it runs."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT
from tools.fuzz.seeds import write_seeds
from tools.fuzz.targets import TARGETS, join, split


@pytest.mark.parametrize("target", TARGETS)
def test_no_seed_is_a_finding(target: str, tmp_path: Path) -> None:
    write_seeds(target, tmp_path)
    for seed in tmp_path.iterdir():
        TARGETS[target](seed.read_bytes())


def test_parts_are_taken_apart_as_they_were_put_together() -> None:
    parts = [b"header", b"", bytes(3000)]
    assert split(join(parts)) == parts


@pytest.mark.long
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: requirements-fuzz.txt")
@pytest.mark.parametrize("target", TARGETS)
def test_the_fuzzer_runs_and_says_what_came_of_it(target: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = ["-m", "tools.fuzz", "--seconds", "3", "--target", target, "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(figures.read_text())
    assert found["executions"] > 0 and found["crashes"] == []
