"""The declaration of the capture stage: one process for each source of this machine."""

import platform
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pipeline.common.errors import UserError
from pipeline.config.schema import Natural, Settings, Threads
from pipeline.config.sources import SourceSpec, parse_sources
from pipeline.config.stage import CheckLine, ProcessPlan, RunFacts, StageSpec


class CaptureSettings(Settings, frozen=True):
    """`[capture]`: the sources."""

    sources: list[str] = msgspec.field(default_factory=list)
    camera_width: Natural = 0  # px; 0: the camera's own
    camera_height: Natural = 0  # px; 0: the camera's own
    camera_fps: Natural = 0  # frames a second; 0: the camera's own
    reopen_attempts: Natural = 5  # how often in a row a live source is opened again before it ends
    repeat: Natural = 1  # how often a file is played; 0: until stopped
    max_frames: Natural = 0  # a file ends after so many frames, repeats included; 0: all
    start_s: Annotated[float, Meta(ge=0)] = 0.0  # place in a file at which it begins
    duration_s: Annotated[float, Meta(ge=0)] = 0.0  # how much of a source is taken; 0: all
    sample_fps: Annotated[float, Meta(ge=0)] = 0.0  # at most so many frames a second of a file; 0: all
    pace_fps: Annotated[float, Meta(ge=0)] = 0.0  # rate of a file; 0: its own, or as fast as it goes
    threads: Threads = 1  # decoder threads


class CaptureOptions(msgspec.Struct, frozen=True):
    """What a capture process is given."""

    source: SourceSpec
    settings: CaptureSettings
    jpeg_quality: int = 90
    page: str = ""  # address of the web page's process, for visitors' cameras


class CameraMode(msgspec.Struct, frozen=True):
    """Width, height, px, and frames a second of a camera; 0: it does not say its rate."""

    width: int
    height: int
    fps: float


class Camera(msgspec.Struct, frozen=True):
    """A camera: what it gives with the settings, and its other sizes."""

    number: int
    got: CameraMode | None = None  # None: it gives no picture
    modes: list[CameraMode] = []


def processes(run: RunFacts) -> list[ProcessPlan]:
    settings = run.settings.of(CaptureSettings)
    return [
        ProcessPlan(
            CAPTURE.role,
            CAPTURE.module,
            f"capture-{number}",
            CaptureOptions(source, settings, run.settings.network.jpeg_quality, visitors_address(run)),
            settings.threads,
            source.name,
            stdin=source.form == "pipe",
        )
        for number, source in enumerate(run.sources, start=1)
    ]


def visitors_address(run: RunFacts) -> str:
    """Return where the web page's process gives the captures of `browser` their visitors' pictures."""
    return f"ipc://{run.directory}/visitors"


def check(settings: CaptureSettings) -> list[CheckLine]:
    """Return a line for each source; where none is named, what would be looked for."""
    if settings.sources:
        return [_source_line(source) for source in settings.sources]
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    seen = f"the first of {', '.join(cameras)} that opens" if cameras else "no camera seen"
    return [CheckLine("ok", "source", f"none named: {seen}, else demo")]


_DETAILS: Final = {
    "camera": "live, not tried",
    "stream": "not tried",
    "pipe": "standard input",
    "folder": "pictures",
    "demo": "the built-in clip",
}


def _source_line(text: str) -> CheckLine:
    try:
        sources = parse_sources([text])
    except UserError as error:
        return CheckLine("missing", "source", str(error))
    source = sources[0]
    label = source.name if source.form in ("camera", "stream") else text  # an address without credentials
    device = Path(f"/dev/video{source.text.removeprefix('/dev/video')}")
    if source.form == "camera" and platform.system() == "Linux" and not device.exists():
        return CheckLine("missing", "source", f"{label}: there is no {device}")
    if source.form == "browser":
        detail = f"visitors of the web page, at most {len(sources)} at a time"
    elif len(sources) > 1:
        detail = f"{len(sources)} sources"
    elif source.form == "video":
        detail = f"a file of {Path(source.text).stat().st_size:,} bytes, not opened"
    else:
        detail = _DETAILS[source.form]
    return CheckLine("ok", "source", f"{label}: {detail}")


CAPTURE = StageSpec("capture", "stages.capture.main", CaptureSettings, processes, check=check)
