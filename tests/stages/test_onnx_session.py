"""What every use of ONNX Runtime shares."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT
from tests.support.models import save_onnx

OPEN = """
import sys
from pathlib import Path
from stages.onnx_session import open_session
path = Path(sys.argv[1])
open_session(path, path.read_bytes(), 1, "classify.model")
"""


def test_onnx_runtime_collects_nothing(tmp_path: Path) -> None:
    """Its telemetry keeps a queue and an identifier in the cache directory, and a session in TMPDIR."""
    model = save_onnx(tmp_path / "tiny.onnx", {"fer2013": 0})
    home = tmp_path / "home"
    home.mkdir()
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(home))
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", OPEN, str(model)]
    subprocess.run(command, cwd=PROJECT, env=environment | places, check=True, timeout=60)
    assert list(home.iterdir()) == []
