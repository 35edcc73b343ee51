"""requirements.txt alone runs the pipeline: nothing of requirements-train.txt is loaded at its start."""

import subprocess
import sys

from pipeline.common.files import PROJECT
from trainer.__main__ import PACKAGES

START = """
import importlib, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # as if they were not installed
from stages.stage import STAGES
modules = [spec.module for spec in STAGES]
others = ["pipeline.cli.main", "pipeline.cli.check", "pipeline.broker.main", "tools.wheels", "emotions"]
for name in [*others, *modules]:
    importlib.import_module(name)
"""


def test_pipeline_starts_without_the_trainers_packages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, *PACKAGES], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
