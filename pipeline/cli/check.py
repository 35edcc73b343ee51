"""`python run.py check`: whether the configuration is valid, what would run, and what is missing.

Nothing heavy is loaded. Cameras alone are opened, with --cameras, in another process.
"""

import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from pipeline.broker.spec import BROKER
from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT, python_path
from pipeline.config.loader import DEFAULT_FILE
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import parse_sources
from pipeline.config.stage import CheckLine, cores, output_line
from pipeline.supervisor.plan import make_plan
from pipeline.wire.addresses import is_tcp
from stages.capture.spec import Camera, CameraMode, CaptureSettings
from stages.stage import STAGES, choose_page

_COLOURS: Final = {"ok": "green", "note": "yellow", "missing": "bold red"}
_MISSING_STATUS: Final = 2


def run_check(
    settings: PipelineSettings,
    here: frozenset[str],
    config: Path | None = None,
    cameras: bool = False,
) -> int:
    """Print a line for each part; return 0 if the pipeline would run, 2 if something is missing.

    here: the roles that run here. config: the file of --config, if any. cameras: open each camera.
    """
    lines = [*system_lines(config), *package_lines(PROJECT / "requirements.txt")]
    try:
        settings = settings.replace(choose_page(settings, here))
    except UserError as error:
        lines.append(CheckLine("missing", "display", str(error)))
    for spec in reversed(STAGES):  # sources first
        if spec.check is not None and spec.role in here:
            lines += spec.check(settings.of(spec.settings))
    if cameras:
        lines += camera_lines(settings.of(CaptureSettings))
    if settings.log.file:
        lines.append(output_line("log", settings.log.file))
    lines += key_lines(settings, here)
    try:
        lines += process_lines(settings, here)
    except UserError as error:
        if not any(line.state == "missing" for line in lines):  # else a line above says what is missing
            lines.append(CheckLine("missing", "processes", str(error)))
    _print(lines)
    return _MISSING_STATUS if any(line.state == "missing" for line in lines) else 0


def system_lines(config: Path | None) -> list[CheckLine]:
    file = config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    return [
        CheckLine("ok", "python", f"{platform.python_version()} on {platform.system()}, {cores()} cores"),
        CheckLine("ok", "configuration", str(file) if file else "the defaults: there is no pipeline.toml"),
    ]


def package_lines(requirements: Path) -> list[CheckLine]:
    """Return a line for each pinned package."""
    if not requirements.is_file():
        return [CheckLine("note", "packages", f"no {requirements} to compare with")]
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    return [_package_line(name, pinned) for name, pinned in pins]


def key_lines(settings: PipelineSettings, here: frozenset[str]) -> list[CheckLine]:
    """Return whether the keys of tcp addresses are there; no line for a run over `ipc` alone."""
    broker, named = settings.broker, settings.security.keys
    work, publishes = is_tcp(broker.address), is_tcp(broker.publish) and "broker" in here
    if not (work or publishes):
        return [CheckLine("note", "keys", f"{named}: not used, since no address is tcp")] if named else []
    if not named:
        return [CheckLine("ok", "keys", "this user's own, made when they are needed")]
    from pipeline.wire.keys import check_keys  # which loads zmq

    roles = ["supervisor", *(spec.role for spec in (BROKER, *STAGES) if spec.role in here)]
    try:
        check_keys(Path(named).expanduser(), roles if work else ["broker"])
    except UserError as error:
        return [CheckLine("missing", "keys", str(error))]
    return [CheckLine("ok", "keys", f"{named}: those of {', '.join(roles if work else ['broker'])}")]


def process_lines(settings: PipelineSettings, here: frozenset[str]) -> list[CheckLine]:
    """Return how many processes would start, and the threads of each.

    Raises UserError where a run would be refused.
    """
    # Without a source there is one too: a camera or the demo.
    specs = parse_sources(settings.of(CaptureSettings).sources or ["demo"])
    plan = make_plan((BROKER, *STAGES), settings, specs, here, Path("run"))
    threads = Counter((process.role, process.threads) for process in plan.processes)
    return [_processes_line(role, number, each) for (role, each), number in threads.items()]


def _processes_line(role: str, number: int, threads: int) -> CheckLine:
    """Return a stage's processes and threads; it is a note if they exceed the cores."""
    text = f"{_count(number, 'process', 'es')}, {_count(threads, 'thread')} each"
    if number * threads > cores() and number * threads > 1:
        return CheckLine("note", role, f"{text}: more than this machine's {_count(cores(), 'core')}")
    return CheckLine("ok", role, text)


def _package_line(name: str, pinned: str) -> CheckLine:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return CheckLine("missing", name, f"not installed; pip install {name}=={pinned}")
    if found != pinned:
        return CheckLine("note", name, f"{found}; the pipeline is tested with {pinned}")
    return CheckLine("ok", name, found)


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"


def _print(lines: Sequence[CheckLine]) -> None:
    console = Console(highlight=False)
    width = max(len(line.part) for line in lines)
    for line in lines:
        state = Text(f"{line.state:<8}", style=_COLOURS[line.state])
        console.print(
            state.append(f"{line.part:<{width}}  {line.detail}", style="not bold default"), soft_wrap=True
        )
    missing = sum(line.state == "missing" for line in lines)
    verdict = f"{_count(missing, 'part')} missing: it would not run" if missing else "it would run"
    console.print(Text(verdict, style="bold red" if missing else "bold green"))


LIMIT_S: Final = 60.0
"""For all cameras: each is opened about eight times."""

RATE_TOLERANCE: Final = 0.05
"""29.97 frames a second pass for 30."""


def camera_lines(settings: CaptureSettings) -> list[CheckLine]:
    """Return a line for each camera. They are opened in another process, since drivers may hang."""
    wanted = settings.camera_width, settings.camera_height, settings.camera_fps
    command = [sys.executable, "-P", "-m", "stages.capture.sources.camera", "list", *map(str, wanted)]
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
    """Return what a camera delivers, and whether it is what the settings ask for."""
    name = f"camera {camera.number}"
    if camera.got is None:
        return CheckLine(
            "note", name, "gives no picture; check that no other program uses it, and your permissions"
        )
    modes = ", ".join(map(_mode, camera.modes))
    missed = _missed(camera.got, settings)
    if missed:
        return CheckLine("note", name, f"{missed} asked for, {_mode(camera.got)} got; it has {modes}")
    return CheckLine("ok", name, f"{_mode(camera.got)}; it has {modes}")


def _missed(got: CameraMode, settings: CaptureSettings) -> str:
    """Return the settings that the camera does not meet; "" if there are none."""
    missed = []
    for key, value in (("width", got.width), ("height", got.height)):
        wanted = getattr(settings, f"camera_{key}")
        if wanted and wanted != value:
            missed.append(f"capture.camera_{key}={wanted}")
    if settings.camera_fps and abs(got.fps - settings.camera_fps) > RATE_TOLERANCE * settings.camera_fps:
        missed.append(f"capture.camera_fps={settings.camera_fps}")
    return ", ".join(missed)


def _mode(mode: CameraMode) -> str:
    rate = f" at {mode.fps:g}/s" if mode.fps else ""
    return f"{mode.width}×{mode.height}{rate}"
