"""The declaration of the display stage: it shows, records and writes what the run finds."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pipeline.common.errors import UserError
from pipeline.config.schema import Settings, WordsSettings
from pipeline.config.stage import CheckLine, ProcessPlan, RunFacts, StageSpec, output_line
from pipeline.wire.addresses import has_ipc

STDOUT: Final = "-"
"""In place of a results file: lines of JSON on standard output."""

SHOWN: Final = {
    "window": ("stages.display.sinks.window", "Window"),
    "web": ("stages.display.sinks.page", "Page"),
}
VIDEOS: Final = {
    ".mkv": ("stages.display.sinks.video", "Recordings"),
    ".mp4": ("stages.display.sinks.video", "Recordings"),
}
RESULTS: Final = {
    ".jsonl": ("stages.display.sinks.results", "Results"),
    ".csv": ("stages.display.sinks.results", "Results"),
    STDOUT: ("stages.display.sinks.results", "Lines"),
}
"""Module and class of each sink, by the word in `display.mode` and the endings of `display.record` and
`display.results`. A module is imported when its sink is chosen: OpenCV and PyAV take memory and time to
load."""

PICTURES: Final = ("stages.display.sinks.pictures", "Pictures")
UNSEEN: Final = ("stages.display.sinks.sink", "NullSink")

MODES: Final = ("auto", *SHOWN, "none")
Mode = Annotated[str, Meta(extra={"choices": MODES})]
ResultsFile = Annotated[
    str, Meta(extra={"endings": tuple(end for end in RESULTS if end != STDOUT), "or": (STDOUT,)})
]
RecordPath = Annotated[str, Meta(extra={"endings": tuple(VIDEOS), "or_folder": ("/",)})]

PROBE_TIMEOUT_S: Final = 20.0
_PROBE: Final = "import cv2; cv2.namedWindow('probe'); cv2.pollKey(); cv2.destroyAllWindows()"


UNCERTAIN_BELOW: Final = 0.5
"""Threshold without one in the model's card: a calibrated confidence below it is more often wrong than
right."""


class DisplaySettings(Settings, frozen=True):
    """`[display]`: what people see and what is written."""

    mode: Mode = "auto"  # the benchmark's is draw: frames are drawn, not shown
    results: ResultsFile = ""  # .jsonl or .csv file; -: standard output; empty: none
    record: RecordPath = ""  # .mkv or .mp4 file, or a folder for pictures; empty: none
    smoothing_s: Annotated[float, Meta(ge=0)] = 0.5  # time constant of the shown probabilities; 0: off
    uncertain_below: Annotated[float, Meta(ge=-1, le=1)] = -1.0  # smoothed confidence; -1: the model card's
    mirror: bool = False  # show the window as a mirror does; files are never mirrored


class DisplayOptions(msgspec.Struct, frozen=True):
    """What the display process is given."""

    settings: DisplaySettings  # mode is one of SHOWN, none, or the benchmark's draw
    sources: list[str]  # names, in their order
    checkpoint: str  # a file in the run's directory, for the process that replaces this one
    words: WordsSettings = WordsSettings()
    page: str = ""  # address of the web page's process


def sinks_of(settings: DisplaySettings) -> list[tuple[str, str]]:
    """Return module and class of each sink to open; results last, since writing them acknowledges a
    record."""
    found = []
    if settings.mode != "none":
        found.append(UNSEEN if settings.mode == "draw" else SHOWN[settings.mode])
    if settings.record:
        found.append(VIDEOS.get(Path(settings.record).suffix.lower(), PICTURES))
    if settings.results:
        found.append(RESULTS[Path(settings.results).suffix.lower() or STDOUT])
    return found


def processes(run: RunFacts) -> list[ProcessPlan]:
    names, checkpoint = [source.name for source in run.sources], str(run.directory / "display.json")
    settings = run.settings.of(DisplaySettings)
    words = run.settings.of(WordsSettings)
    options = DisplayOptions(settings, names, checkpoint, words, page_address(run))
    return [ProcessPlan(DISPLAY.role, DISPLAY.module, "display", options, stdout=settings.results == STDOUT)]


def page_address(run: RunFacts) -> str:
    """Return the address at which display and the web page's process are linked."""
    return f"ipc://{run.directory}/page"


def window_trouble() -> str:
    """Return why no window can be opened, "" if one can. Another process tries, since Qt ends a process that
    has no screen."""
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not screen and sys.platform not in ("win32", "darwin"):
        return "no screen here (DISPLAY is not set)"
    try:
        probe = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE], capture_output=True, timeout=PROBE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"opening a window took longer than {PROBE_TIMEOUT_S:.0f} s"
    return f"cannot open a window on {screen or 'the screen'}" if probe.returncode else ""


def resolve(settings: DisplaySettings) -> tuple[DisplaySettings, list[str]]:
    """Return the settings with a mode in place of auto, and lines about that choice.

    Raises UserError for a display that is not possible here.
    """
    if settings.mode == "web" and not has_ipc():
        raise UserError("display.mode: the web page needs ipc, which this system lacks; use window or none")
    if settings.mode not in ("auto", "window"):
        return settings, []
    trouble = window_trouble()
    if not trouble:
        return msgspec.structs.replace(settings, mode="window"), []
    if settings.mode == "window":
        raise UserError(
            f"display.mode: {trouble}; use --display web, or --display none with --record FILE for an "
            "annotated video"
        )
    if has_ipc() and not (settings.results or settings.record):
        return msgspec.structs.replace(settings, mode="web"), [f"{trouble}: a web page is served instead"]
    # Not the page for a run that writes files: a file that is watched plays at its own rate.
    more = "--display web serves a page" if has_ipc() else "--record FILE makes an annotated video"
    return msgspec.structs.replace(settings, mode="none"), [f"{trouble}: the status is shown here; {more}"]


def check(settings: DisplaySettings) -> list[CheckLine]:
    try:
        resolved, lines = resolve(settings)
        found = [CheckLine("ok", "display", *(lines or [resolved.mode]))]
    except UserError as error:
        found = [CheckLine("missing", "display", str(error))]
    if settings.results not in ("", STDOUT):
        found.append(output_line("results", settings.results))
    if settings.record:
        folder = Path(settings.record).suffix.lower() not in VIDEOS
        found.append(output_line("record", settings.record, folder=folder))
    return found


DISPLAY = StageSpec("display", "stages.display.main", DisplaySettings, processes, resolve, check)
