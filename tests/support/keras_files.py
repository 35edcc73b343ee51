"""`.keras` files taken apart and put together, and scripts run with Keras, which the tests don't load."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from pipeline.common.files import PROJECT

Members = dict[str, bytes]


def members(model: Path) -> Members:
    with zipfile.ZipFile(model) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: Members, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def keras_says(script: str, *arguments: object) -> list[str]:
    """Run a script with Keras and return its lines."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True, timeout=300
    )
    return done.stdout.splitlines()
