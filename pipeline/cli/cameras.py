"""`python run.py check --cameras`: which cameras there are, and what they give for what is asked of them."""

import os
import subprocess
import sys
from typing import Final

import msgspec

from pipeline.common.files import python_path
from pipeline.config.stage import CheckLine
from stages.capture.probe import Camera, Mode
from stages.capture.spec import CaptureSettings

LIMIT_S: Final = 60.0
"""For all cameras: each is opened some eight times."""

RATE_TOLERANCE: Final = 0.05
"""29.97 frames a second are the 30 that were asked for."""


def camera_lines(settings: CaptureSettings) -> list[CheckLine]:
    """Return a line for each camera. They are opened in another process, in which a driver may hang."""
    asked = settings.camera_width, settings.camera_height, settings.camera_fps
    command = [sys.executable, "-P", "-m", "stages.capture.probe", "list", *map(str, asked)]
    environment = os.environ | {"PYTHONPATH": python_path()}
    hung = []
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=LIMIT_S)
        printed = done.stdout
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""
        hung = [CheckLine("note", "camera", f"another one has not answered within {LIMIT_S:.0f} s")]
    found = [msgspec.json.decode(line, type=Camera) for line in printed.splitlines()]
    lines = [camera_line(camera, settings) for camera in found]
    return lines + hung or [CheckLine("note", "camera", "none found")]


def camera_line(camera: Camera, settings: CaptureSettings) -> CheckLine:
    """Return what a camera gives, and whether it is what was asked for."""
    name = f"camera {camera.number}"
    if camera.got is None:
        return CheckLine("note", name, "gives no picture; is it free, and may you read it?")
    modes = ", ".join(map(_mode, camera.modes))
    missed = _missed(camera.got, settings)
    if missed:
        return CheckLine("note", name, f"{missed} asked for, {_mode(camera.got)} got; it has {modes}")
    return CheckLine("ok", name, f"{_mode(camera.got)}; it has {modes}")


def _missed(got: Mode, settings: CaptureSettings) -> str:
    """Return what was asked for and not got; "" if there is nothing."""
    missed = []
    for key, value in (("width", got.width), ("height", got.height)):
        asked = getattr(settings, f"camera_{key}")
        if asked and asked != value:
            missed.append(f"capture.camera_{key}={asked}")
    if settings.camera_fps and abs(got.fps - settings.camera_fps) > RATE_TOLERANCE * settings.camera_fps:
        missed.append(f"capture.camera_fps={settings.camera_fps}")
    return ", ".join(missed)


def _mode(mode: Mode) -> str:
    rate = f" at {mode.fps:g}/s" if mode.fps else ""
    return f"{mode.width}×{mode.height}{rate}"
